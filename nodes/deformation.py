"""One map from target to source positions, sampled at the voxel centres of any array.

Letters: D spatial axes (2 or 3), Z Y X the voxels of a target array. World coordinates are whole numbers at voxel
corners; voxel ``i`` of an array that begins at ``b`` with voxel size ``v`` has its centre at ``b + (i + 1/2) v``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from scipy.ndimage import map_coordinates

__all__ = ["Deformation", "ElasticField", "Samples"]

_STEPS_PER_VOXEL = 2.0**28
"""Sample positions are rounded to this fraction of a voxel: far above the rounding errors of the map and far below what
matters, so that a map that keeps the lattice copies voxels instead of mixing in 1e-13 of a neighbour."""


@dataclass(frozen=True, slots=True)
class ElasticField:
    """Random displacements at the points of a regular grid, joined by a cubic spline.

    Everything is a plain number: the displacements are drawn anew from ``seed``.

    Attributes:
        begin: world position of the first control point, per axis.
        spacing: world units between control points, per axis.
        shape: number of control points per axis, at least four.
        sigma: standard deviation of the displacement at a control point, in world units, per axis.
        seed: of the ``numpy.random.Generator`` that draws the displacements.
    """

    begin: tuple[int, ...]
    spacing: tuple[int, ...]
    shape: tuple[int, ...]
    sigma: tuple[float, ...]
    seed: int

    @classmethod
    def covering(cls, roi: Roi, spacing: Sequence[int], sigma: Sequence[float], seed: int) -> ElasticField:
        """A field with at least one more control point beyond each face of ``roi``, where a spline is less tame."""
        return cls(
            begin=tuple(int(b) - s for b, s in zip(roi.begin, spacing, strict=True)),
            spacing=tuple(spacing),
            shape=tuple(-(-int(length) // s) + 3 for length, s in zip(roi.shape, spacing, strict=True)),
            sigma=tuple(sigma),
            seed=seed,
        )

    def displacements(self) -> NDArray[np.float64]:
        """The displacement (world units) of every control point: (D, *shape)."""
        unit = np.random.default_rng(self.seed).standard_normal((len(self.shape), *self.shape))
        return unit * _per_axis(self.sigma)

    def at(self, coordinates: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """The displacement (D, Z, Y, X) at the points of the grid that the ``coordinates`` along each axis span."""
        field = self.displacements()
        for axis, along in enumerate(coordinates):
            points = self.shape[axis]
            spline = make_interp_spline(np.arange(points), np.eye(points), k=3)
            weights = spline((along - self.begin[axis]) / self.spacing[axis])
            field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis + 1)), 0, axis + 1)
        return field


@dataclass(frozen=True, slots=True)
class Deformation:
    """The map that gives for every target position p the source position

    ``matrix @ (p - target_centre) + source_centre + elastic(p)``

    in world units. All arrays of a request are sampled through the same map, so they agree at every voxel size.

    Attributes:
        matrix: D rows of D numbers.
        target_centre: the fixed point of ``matrix``, as a target position.
        source_centre: where the target centre is read from.
        elastic: a displacement on top, or None.
    """

    matrix: tuple[tuple[float, ...], ...]
    target_centre: tuple[int, ...]
    source_centre: tuple[int, ...]
    elastic: ElasticField | None = None

    @classmethod
    def centred(
        cls, matrix: NDArray[np.float64], roi: Roi, lattice: Coordinate, elastic: ElasticField | None = None
    ) -> Deformation:
        """The map that keeps the centre of ``roi`` where it is, to half a step of ``lattice``.

        Both centres lie on ``lattice`` (the least common multiple of all voxel sizes). So a mirror, a transposition or
        a quarter turn carries voxels to voxels at every voxel size, and the mirror image of a ROI on the lattice is
        read from that same ROI.
        """
        step = np.array(lattice)
        doubled = np.array(roi.begin) + np.array(roi.end)
        target = (doubled + step) // (2 * step) * step
        rest = doubled / 2 - target
        source = target + np.floor((rest - matrix @ rest) / step + 0.5).astype(np.int64) * step
        rows = tuple(tuple(float(entry) for entry in row) for row in matrix)
        return cls(rows, tuple(target.tolist()), tuple(source.tolist()), elastic)

    def samples(self, roi: Roi, voxel_size: Coordinate) -> Samples:
        """Where the voxels of a target array that fills ``roi`` are read, on the lattice of ``voxel_size``."""
        coordinates = [
            begin + (np.arange(length // size) + 0.5) * size
            for begin, length, size in zip(roi.begin, roi.shape, voxel_size, strict=True)
        ]
        arms = np.ix_(*(along - centre for along, centre in zip(coordinates, self.target_centre, strict=True)))
        anchor = np.array(self.source_centre) // np.array(voxel_size) * np.array(voxel_size)
        offset = np.array(self.source_centre) - anchor
        positions = np.empty((len(self.matrix), *map(len, coordinates)))
        for axis, row in enumerate(self.matrix):
            positions[axis] = sum(factor * arm for factor, arm in zip(row, arms, strict=True)) + offset[axis]
        if self.elastic is not None:
            positions += self.elastic.at(coordinates)
        positions /= _per_axis(voxel_size)
        positions -= 0.5
        positions *= _STEPS_PER_VOXEL
        np.rint(positions, out=positions)
        positions /= _STEPS_PER_VOXEL
        return Samples(Coordinate(anchor), voxel_size, positions)

    def to_json(self) -> str:
        """The map as text; :meth:`from_json` gives an equal one back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Deformation:
        """The map that :meth:`to_json` wrote."""
        fields = {name: _as_tuples(value) for name, value in json.loads(text).items()}
        elastic = fields.pop("elastic")
        if elastic is not None:
            elastic = ElasticField(**{name: _as_tuples(value) for name, value in elastic.items()})
        return cls(**fields, elastic=elastic)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Where one target array reads its source array.

    Attributes:
        anchor: world position of a voxel corner of the source lattice.
        voxel_size: of source and target, in world units.
        positions: (D, Z, Y, X), in voxels from the centre of the voxel that begins at ``anchor``.
    """

    anchor: Coordinate
    voxel_size: Coordinate
    positions: NDArray[np.float64]

    def box(self, interpolate: bool) -> Roi:
        """The smallest source ROI that holds every voxel that :meth:`read` needs."""
        axes = tuple(range(1, self.positions.ndim))
        low, high = self.positions.min(axis=axes), self.positions.max(axis=axes)
        first = np.floor(low) if interpolate else _nearest(low)
        last = np.ceil(high) if interpolate else _nearest(high)
        begin, shape = (Coordinate(length.astype(np.int64)) for length in (first, last - first + 1))
        return Roi(self.anchor + begin * self.voxel_size, shape * self.voxel_size)

    def read(self, data: NDArray[Any], interpolate: bool) -> NDArray[Any]:
        """The target voxels, (..., Z, Y, X), of the dtype of ``data``.

        Args:
            data: what the source holds in ``box(interpolate)``, with any number of leading channel axes.
            interpolate: linearly between voxel centres (rounded for integers), or take the nearest voxel (the upper one
                of two equally near).
        """
        dims = len(self.positions)
        first = (self.box(interpolate).begin - self.anchor) / self.voxel_size
        channels, shape = data.shape[:-dims], data.shape[-dims:]
        flat = data.reshape(-1, *shape)
        if interpolate:
            local = self.positions - _per_axis(first)
            read = np.stack([_linear(channel, local) for channel in flat])
        else:
            # scipy reads labels through floating point numbers, which hold identifiers up to 2**53 only
            local = _nearest(self.positions).astype(np.intp) - _per_axis(first)
            read = np.take(flat.reshape(len(flat), -1), np.ravel_multi_index(tuple(local), shape), axis=1)
        return read.reshape(*channels, *self.positions.shape[1:])


def _linear(channel: NDArray[Any], positions: NDArray[np.float64]) -> NDArray[Any]:
    whole = channel.dtype.kind in "iu"
    known = channel if whole or channel.dtype.itemsize > 2 else channel.astype(np.float32)
    output = np.float64 if whole else known.dtype
    read = map_coordinates(known, positions, output=output, order=1, mode="nearest")
    return (np.rint(read) if whole or channel.dtype.kind == "b" else read).astype(channel.dtype, copy=False)


def _nearest(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.floor(positions + 0.5)


def _per_axis(values: Sequence[Any]) -> NDArray[Any]:
    """One value per axis, to be combined with a (D, Z, Y, X) array."""
    return np.array(values).reshape(-1, *(1,) * len(values))


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(entry) for entry in value) if isinstance(value, list) else value
