"""Random deformation that is the same at every voxel size."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import isfinite, lcm
from operator import index
from typing import Annotated, Any, Self

import numpy as np
from funlib.geometry import Coordinate, Roi
from gunpowder import Array, ArrayKey, ArraySpec, Batch, BatchRequest, GraphKey, GraphSpec
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError, PipelineError
from scalenet_gp.nodes.augment.augment import Augment, AugmentOptions, as_probability, unused_name
from scalenet_gp.nodes.augment.deformation import Deformation, ElasticField
from scalenet_gp.nodes.augment.deformed_graph import deform_graph
from scalenet_gp.nodes.augment.deformed_points import source_box
from scalenet_gp.nodes.augment.deformed_vectors import deform_vectors
from scalenet_gp.nodes.augment.samples import Samples
from scalenet_gp.nodes.requests import answer_shift, offer_shift, request_generator, shift_key, take_shift
from scalenet_gp.options import InWorldUnits, Probability, Size, WholeSize, options_of

__all__ = ["DeformAugment", "DeformOptions"]


class DeformAugment(Augment):
    """Deform all spatial arrays of a batch by one map: elastic, rotated, scaled, mirrored and transposed.

    The map is drawn once per request, in world units, and evaluated at the voxel centers of every array; the same world
    point shows the same content at every voxel size. Each array is resampled once, linearly if its spec says
    ``interpolatable``, else by the nearest voxel. It reads exactly the source box that its samples need. A map without
    rotation, scale and jitter copies voxels unchanged (transposed axes need equal voxel sizes for that).

    Nodes of graphs move to where arrays show their content, by the inverse of the map. Graphs end with the requested
    ROI; an edge that leaves it ends in a new node at its face. Where the map folds, a node may be left out.

    By default nothing but the elastic part is drawn. Arrays without a ROI pass unchanged. The draw is kept as
    ``array.attrs["deformation"]``, to be read with :meth:`.Deformation.from_json`, or to be given back as ``replay``.

    :class:`.SampleLocation` goes downstream of this node: the part of its shift that is less than a whole voxel of
    every array becomes part of the map.

    Args:
        control_point_spacing: world units between the control points of the elastic part, per spatial axis. Its length
            (2 or 3) is the number of spatial axes: the last axes of every array.
        jitter_sigma: standard deviation of the control points' displacement, in world units, per spatial axis. A
            tenth of the spacing keeps the map one to one; from about a seventh on it folds here and there.
        rotation_axes: the spatial axes within which to rotate by a random angle: none, two of them (in their
            plane, as fits thick sections), or all three (every rotation equally likely).
        mirror_axes: spatial axes; each is mirrored with probability one half.
        transpose_axes: spatial axes that are permuted; every order is equally likely.
        scale_interval: bounds of the factor by which source distances are larger than target distances: one pair for
            all axes alike, or one for each axis, drawn independently (anisotropic).
        p: the probability that a batch is deformed at all.
        normalize: turn arrays of integers that may be interpolated into float32 fractions of the largest value of their
            type (255 for uint8), in the same pass and without rounding. gunpowder's ``Normalize`` is then not needed.
        vectors: arrays of vectors, such as those from synapses to their partners: one channel for each spatial axis, in
            the order of the axes, floats in world units; 0 along all axes where there is no vector. They are turned,
            mirrored, scaled and bent as their content is, so that each still leads to the same content, and read from
            the nearest voxel.
        replay: a record of an earlier batch, applied to every batch instead of a draw.

    Attributes:
        shift_key: key of the array, outside space, by which a sampler asks for a shift below the common lattice.

    Raises:
        ArgumentError: an argument is out of its range.
        PipelineError: for a request: an array is empty, has other spatial axes, or its spec does not say whether it may
            be interpolated; ``replay`` is the record of another location.
        DataError: for a request: vectors of other channels than the spatial axes, or of integers.

    Example:
        >>> DeformAugment((512, 512, 512), (48, 48, 48), rotation_axes=(1, 2), mirror_axes=(0, 1, 2)).dims
        3
    """

    record_name = "deformation"
    parameters = Deformation
    moves_content = True

    def __init__(
        self,
        control_point_spacing: WholeSize,
        jitter_sigma: Annotated[Sequence[float], InWorldUnits(Size, whole=False)],
        *,
        rotation_axes: Sequence[int] = (),
        mirror_axes: Sequence[int] = (),
        transpose_axes: Sequence[int] = (),
        scale_interval: tuple[float, float] | Sequence[tuple[float, float]] = (1.0, 1.0),
        p: Probability = 1.0,
        normalize: bool = False,
        vectors: Collection[ArrayKey] = (),
        replay: str | None = None,
    ) -> None:
        self.control_point_spacing = _whole_spacing(control_point_spacing)
        self.dims = len(self.control_point_spacing)
        self.jitter_sigma = tuple(float(sigma) for sigma in jitter_sigma)
        if len(self.jitter_sigma) != self.dims or not all(isfinite(s) and s >= 0 for s in self.jitter_sigma):
            raise ArgumentError(f"jitter_sigma is {jitter_sigma!r}; write {self.dims} numbers, none below 0")
        self.rotation_axes = self._axes("rotation_axes", rotation_axes, (0, 2, 3))
        self.mirror_axes = self._axes("mirror_axes", mirror_axes, (0, 1, 2, 3))
        self.transpose_axes = self._axes("transpose_axes", transpose_axes, (0, 2, 3))
        self.scale_interval = self._intervals(scale_interval)
        self.p = as_probability("p", p)
        self.normalize = normalize
        self.vectors = frozenset(vectors)
        self._replay = None if replay is None else Deformation.from_json(replay)
        if self._replay is not None and len(self._replay.matrix) != self.dims:
            raise ArgumentError(
                f"replay has {len(self._replay.matrix)} spatial axes, control_point_spacing has {self.dims}"
            )
        self.shift_key = shift_key()
        self._shift: Coordinate | None = None
        self._samples: dict[ArrayKey, Samples] = {}
        self._deformation: Deformation | None = None
        self._record = ""

    @classmethod
    def for_arrays(cls, arrays: Iterable[ArrayKey], **arguments: Any) -> Self:
        """Return a node that deforms all arrays, and normalizes those of integers that may be interpolated."""
        return cls(**{"normalize": True, **arguments})

    def draw(self, generator: np.random.Generator, roi: Roi, lattice: Coordinate) -> Deformation:
        """Draw a map about the center of ``roi``.

        Args:
            generator: the source of all random numbers.
            roi: the union of the arrays to deform, in world units.
            lattice: the least common multiple of their voxel sizes.
        """
        matrix = self._draw_rotation(generator) * self._draw_scale(generator)
        for axis in self.mirror_axes:
            matrix[:, axis] *= generator.choice((-1.0, 1.0))
        source_axes = np.arange(self.dims)
        source_axes[list(self.transpose_axes)] = generator.permutation(np.array(self.transpose_axes, dtype=int))
        elastic = None
        if any(self.jitter_sigma):
            seed = int(generator.integers(2**63))
            elastic = ElasticField.covering(roi, self.control_point_spacing, self.jitter_sigma, seed)
        return Deformation.centred(matrix[:, source_axes], roi, lattice, elastic)

    def setup(self) -> None:
        """Announce the types of normalized arrays, and that content can be shifted by less than a voxel."""
        offer_shift(self, self.shift_key)
        if self.normalize:
            for key, spec in self.spec.array_specs.items():
                if spec.interpolatable and spec.dtype is not None and np.dtype(spec.dtype).kind in "iu":
                    changed = spec.copy()
                    changed.dtype = np.dtype(np.float32)
                    self.updates(key, changed)

    def prepare(self, request: BatchRequest) -> None:
        """Draw the map and turn every requested ROI into the source box that it is read from."""
        self._samples, self._deformation, self._shift = {}, None, take_shift(request, self.shift_key)
        shift = Coordinate((0,) * self.dims) if self._shift is None else self._shift
        generator = request_generator(request, type(self).__name__)
        specs, graphs = self._spatial_specs(request), self._graph_specs(request)
        if not specs and not graphs:
            return
        voxel_sizes = {key: self.spec[key].voxel_size for key in specs}
        deformation = self._replay
        if deformation is not None:
            _check_place(deformation, request.get_total_roi())
        else:
            lattice = _common_multiple(voxel_sizes.values()) if specs else Coordinate((1,) * self.dims)
            deforms = generator.random() < self.p
            if not deforms and not self.normalize and not any(shift):
                return
            roi = request.get_total_roi()
            deformation = (
                self.draw(generator, roi, lattice) if deforms else Deformation.centred(np.eye(self.dims), roi, lattice)
            ).shifted(shift)
        self._deformation, self._record = deformation, deformation.to_json()
        grids: dict[tuple[Coordinate, ...], Samples] = {}
        for key, spec in specs.items():
            grid = (spec.roi.begin, spec.roi.shape, voxel_sizes[key])
            if grid not in grids:
                grids[grid] = Samples(deformation, spec.roi, voxel_sizes[key])
            self._samples[key] = grids[grid]
            spec.roi = grids[grid].box(self._interpolates(key))
        for spec in graphs.values():
            spec.roi = source_box(deformation, spec.roi)

    def process(self, batch: Batch, request: BatchRequest) -> None:
        """Resample the source boxes into the requested ROIs."""
        for key, samples in self._samples.items():
            if key not in request:
                continue  # a placeholder: it took part with its ROI, its data is not wanted
            array = batch[key]
            spec = array.spec.copy()
            spec.roi = request[key].roi
            if key in self.vectors and self._deformation is not None:
                data = deform_vectors(array.data, samples, self._deformation, spec.roi, self.spec[key].voxel_size)
            else:
                data = samples.read(array.data, self._interpolates(key), self.normalize)
            spec.dtype = data.dtype
            batch[key] = Array(data, spec, {**array.attrs, unused_name(self.record_name, array.attrs): self._record})
        for key, asked in request.graph_specs.items():
            if self._deformation is not None and asked.roi is not None:
                batch[key] = deform_graph(batch[key], self._deformation, asked.roi)
        if self._shift is not None:
            answer_shift(batch, self.shift_key, self._shift)
        self._samples, self._deformation, self._shift = {}, None, None

    def _interpolates(self, key: ArrayKey) -> bool:
        return bool(self.spec[key].interpolatable) and key not in self.vectors

    def _draw_scale(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw the factors of the rotated target's axes, before they are permuted, (D,)."""
        if len(self.scale_interval) == 1:
            return np.full(self.dims, generator.uniform(*self.scale_interval[0]))
        return np.array([generator.uniform(low, high) for low, high in self.scale_interval])

    def _draw_rotation(self, generator: np.random.Generator) -> NDArray[np.float64]:
        from scipy.spatial.transform import Rotation  # slow to import

        matrix = np.eye(self.dims)
        if len(self.rotation_axes) == 2:
            angle = generator.uniform(0, 2 * np.pi)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            matrix[np.ix_(self.rotation_axes, self.rotation_axes)] = turn
        elif self.rotation_axes:
            # a normally distributed quaternion points in every direction equally likely
            matrix = Rotation.from_quat(generator.standard_normal(4)).as_matrix()
        return matrix

    def _spatial_specs(self, request: BatchRequest) -> dict[ArrayKey, ArraySpec]:
        specs = {key: spec for key, spec in request.array_specs.items() if spec.roi is not None}
        for key, spec in specs.items():
            if spec.roi.dims != self.dims:
                raise PipelineError(f"{key} has {spec.roi.dims} spatial axes, control_point_spacing has {self.dims}")
            if spec.roi.empty:
                raise PipelineError(f"{key} is requested in {spec.roi}, which is empty; leave it out of the request")
            if self.spec[key].interpolatable is None:
                raise PipelineError(
                    f"the spec of {key} does not say whether it may be interpolated; "
                    "have its source set interpolatable=True (intensities) or False (labels)"
                )
        return specs

    def _graph_specs(self, request: BatchRequest) -> dict[GraphKey, GraphSpec]:
        specs = {key: spec for key, spec in request.graph_specs.items() if spec.roi is not None}
        for key, spec in specs.items():
            if spec.roi.dims != self.dims:
                raise PipelineError(f"{key} has {spec.roi.dims} spatial axes, control_point_spacing has {self.dims}")
        return specs

    def _axes(self, name: str, axes: Sequence[int], lengths: tuple[int, ...]) -> tuple[int, ...]:
        chosen = tuple(index(axis) for axis in axes)
        if len(set(chosen)) != len(chosen) or not all(0 <= axis < self.dims for axis in chosen):
            raise ArgumentError(f"{name} is {axes!r}; write different axes between 0 and {self.dims - 1}")
        if len(chosen) not in lengths:
            raise ArgumentError(f"{name} is {axes!r}; one axis alone cannot be turned, write none, two or three")
        return chosen

    def _intervals(
        self, bounds: tuple[float, float] | Sequence[tuple[float, float]]
    ) -> tuple[tuple[float, float], ...]:
        """Return one (low, high) for all axes, or one for each."""
        pairs = np.array(bounds, dtype=float)
        pairs = pairs[None] if pairs.ndim == 1 else pairs
        if pairs.shape not in ((1, 2), (self.dims, 2)) or not all(0 < low <= high < np.inf for low, high in pairs):
            raise ArgumentError(
                f"scale_interval is {bounds!r}; write (low, high) with 0 < low <= high, or {self.dims} such pairs"
            )
        return tuple((float(low), float(high)) for low, high in pairs)


def _whole_spacing(spacing: Iterable[int]) -> tuple[int, ...]:
    try:
        whole = tuple(index(length) for length in spacing)
    except TypeError as error:
        raise ArgumentError(f"control_point_spacing is {spacing!r}; write whole world units per axis") from error
    if len(whole) not in (2, 3) or min(whole) <= 0:
        raise ArgumentError(f"control_point_spacing is {spacing!r}; write two or three lengths above 0")
    return whole


def _check_place(deformation: Deformation, roi: Roi) -> None:
    """Refuse a map that was drawn for another location.

    Raises:
        PipelineError: its center lies outside ``roi``.
    """
    if not roi.contains(Coordinate(deformation.target_centre)):
        raise PipelineError(
            f"replay deforms about {deformation.target_centre}, outside of the requested {roi}: it is the record "
            "of a sample elsewhere; give SampleLocation the record of that sample's location"
        )


def _common_multiple(voxel_sizes: Iterable[Coordinate]) -> Coordinate:
    return Coordinate(lcm(*map(int, lengths)) for lengths in zip(*voxel_sizes, strict=True))


DeformOptions = options_of(DeformAugment, "deform", without=("normalize", "vectors", "replay"), base=AugmentOptions)
