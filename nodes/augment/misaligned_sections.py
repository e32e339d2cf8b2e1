"""Sections that are out of place, as if they were aligned badly, and the same at every voxel size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import isfinite
from typing import Annotated, Any, Unpack, final

import numpy as np
from gunpowder import Array, ArrayKey, Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError, PipelineError
from scalenet_gp.nodes.augment.augment import DrawnParameters, as_probability
from scalenet_gp.nodes.augment.random_augment import check_intensities
from scalenet_gp.nodes.augment.section_augment import (
    SectionArguments,
    SectionAugment,
    SectionOptions,
    choose_sections,
    describe_counts,
)
from scalenet_gp.options import InWorldUnits, Length, Probability, Size, WholeLength, options_of

__all__ = ["MisalignedOptions", "MisalignedSections", "Misalignment"]


@final
class Misalignment(DrawnParameters):
    """The draw of :class:`MisalignedSections`: displacements along the other axes, world units, by section number."""

    slips: dict[int, tuple[float, ...]]
    shifts: dict[int, tuple[float, ...]]

    def displacements(self, sections: range, axes: int) -> NDArray[np.float64]:
        """Return the displacement of each of ``sections``: (section, axis) in world units."""
        displacements = np.zeros((len(sections), axes))
        for section, shift in self.shifts.items():
            displacements[max(0, section - sections.start) :] += shift
        for section, slip in self.slips.items():
            if section in sections:
                displacements[section - sections.start] += slip
        return displacements

    def describe(self, unit: float) -> list[str]:
        return describe_counts({"slipped sections": len(self.slips), "shifted sections": len(self.shifts)})


@final
class MisalignedSections(SectionAugment[Misalignment]):
    """Displace sections within their plane: one alone (slip), or together with all that follow (shift).

    A displaced section shows at x the content that lies at x plus its displacement. A coarse voxel is the mean of its
    displaced sections, each weighted by its share. Between voxels, intensities are interpolated linearly. Labels, and
    all arrays whose spec says ``interpolatable=False``, show the nearest voxel at one displacement per voxel: per axis
    the median over its sections, of two medians the smaller. So a displacement that more than half of the voxel has
    wins.

    The node asks its upstream for the margin that the displacements need, so there are no border effects.
    :class:`SectionAugment` says where sections lie, and where the node goes in a chain. The draw is kept as
    ``array.attrs["misaligned_sections"]``, see :class:`Misalignment`.

    Args:
        arrays: the intensity arrays, label arrays and masks. Arrays that belong together have to be displaced together.
        thickness: the thickness of a section, whole world units.
        sigma: standard deviation of a displacement, world units: one that all axes within a section share, or one per
            such axis.
        slip: the probability of each section to be displaced alone.
        shift: the probability of each section to be displaced with all that follow.
        arguments: ``axis`` and ``origin``, see :class:`SectionAugment`; ``p`` and ``replay``, see
            :class:`RandomAugment`.

    Raises:
        ArgumentError, UnknownNameError: as :class:`SectionAugment`.
        ArgumentError: when the pipeline is built: an array has other axes than the first or than ``replay``, or its
            spec does not say whether it may be interpolated.
        DataError: for a batch: an array that may be interpolated is not of a float type.

    Example:
        >>> import gunpowder as gp
        >>> raw, labels = gp.ArrayKey("RAW"), gp.ArrayKey("LABELS")
        >>> MisalignedSections([raw, labels], thickness=50, sigma=20, slip=0.05).slip
        0.05
    """

    record_name = "misaligned_sections"
    moves_content = True
    parameters = Misalignment

    def __init__(
        self,
        arrays: Iterable[ArrayKey],
        thickness: WholeLength,
        sigma: Annotated[float | Sequence[float], InWorldUnits(Length | Size, whole=False)],
        *,
        slip: Probability = 0.0,
        shift: Probability = 0.0,
        **arguments: Unpack[SectionArguments],
    ) -> None:
        super().__init__(arrays, thickness, **arguments)
        self.slip, self.shift = as_probability("slip", slip), as_probability("shift", shift)
        try:
            self.sigma = np.asarray(sigma, dtype=float)
        except (TypeError, ValueError):
            self.sigma = np.array(np.nan)
        if self.sigma.ndim > 1 or not all(isfinite(s) and s >= 0 for s in self.sigma.flat):
            raise ArgumentError(f"sigma is {sigma!r}; write one length of at least 0, or one per axis within a section")
        self._plane_axes = 0

    def setup(self) -> None:
        super().setup()
        self._plane_axes = len(self.spec[self.arrays[0]].voxel_size) - 1
        if self.sigma.ndim and len(self.sigma) != self._plane_axes:
            raise ArgumentError(
                f"sigma has {len(self.sigma)} lengths; there are {self._plane_axes} axes within a section"
            )
        if self._replay is not None:
            for section, moved in (*self._replay.slips.items(), *self._replay.shifts.items()):
                if len(moved) != self._plane_axes:
                    raise ArgumentError(
                        f"replay displaces section {section} by {moved}; "
                        f"write a length along each of the {self._plane_axes} axes within a section"
                    )
        for key in self.arrays:
            if len(self.spec[key].voxel_size) != self._plane_axes + 1:
                raise PipelineError(f"{key} has other spatial axes than {self.arrays[0]}, they cannot move together")
            if self.spec[key].interpolatable is None:
                raise PipelineError(
                    f"the spec of {key} does not say whether it may be interpolated; "
                    "have its source set interpolatable=True (intensities) or False (labels)"
                )

    def draw(self, generator: np.random.Generator, rois: Mapping[ArrayKey, Roi]) -> Misalignment:
        sections = self.sections(rois.values())
        drawn = []
        for probability in (self.slip, self.shift):
            chosen = choose_sections(generator, sections, probability)
            displacements = self.sigma * generator.standard_normal((len(chosen), self._plane_axes))
            drawn.append(dict(zip(chosen, map(tuple, displacements.tolist()), strict=True)))
        return Misalignment(slips=drawn[0], shifts=drawn[1])

    def source_roi(self, key: ArrayKey, roi: Roi, drawn: Misalignment) -> Roi:
        _, displacements = self._displacements(key, roi, drawn)
        low, high = displacements.min(axis=0, initial=0), displacements.max(axis=0, initial=0)
        interpolatable = self.spec[key].interpolatable
        first, last = (np.floor(low), np.ceil(high)) if interpolatable else (_nearest(low), _nearest(high))
        begin, end = (Coordinate(np.insert(reach, self.axis, 0).astype(int).tolist()) for reach in (-first, last))
        voxel_size = self.spec[key].voxel_size
        return roi.grow(begin * voxel_size, end * voxel_size)

    def apply(self, key: ArrayKey, array: Array, roi: Roi, drawn: Misalignment) -> NDArray[Any]:
        interpolatable, voxel_size = self.spec[key].interpolatable, array.spec.voxel_size
        if interpolatable:
            check_intensities(key, array.data, type(self).__name__, bounded=False)
        box = ((roi - array.spec.roi.begin) // voxel_size).to_slices()
        data = array.data[..., *box].copy()
        across = self.axis - len(voxel_size)
        planes, sources = np.moveaxis(data, across, 0), np.moveaxis(array.data, across, 0)
        in_plane = box[: self.axis] + box[self.axis + 1 :]
        overlaps, displacements = self._displacements(key, roi, drawn)
        for number in np.flatnonzero(overlaps @ displacements.any(axis=1)):
            inside = np.flatnonzero(overlaps[number])
            places, parts = displacements[inside], overlaps[number, inside]
            if interpolatable:
                _read_mean(planes[number], sources[number], in_plane, places, parts / voxel_size[self.axis])
            else:
                planes[number] = _displaced(sources[number], in_plane, _nearest(_median(places, parts)))
        return data

    def _displacements(
        self, key: ArrayKey, roi: Roi, drawn: Misalignment
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the lengths shared by voxels and sections, (voxel, section), and the displacements in voxels."""
        voxel_size = self.spec[key].voxel_size
        sections, overlaps = self.overlaps(roi, voxel_size[self.axis])
        in_world = drawn.displacements(sections, self._plane_axes)
        return overlaps, in_world / np.delete(np.array(voxel_size), self.axis)


def _displaced(source: NDArray[Any], box: tuple[slice, ...], displacement: NDArray[np.float64]) -> NDArray[Any]:
    """Return the content of a plane in ``box`` if it is displaced by whole voxels."""
    shifts = displacement.astype(int).tolist()
    further: list[Any] = [slice(part.start + n, part.stop + n) for part, n in zip(box, shifts, strict=True)]
    return source[(..., *further)]


def _read_mean(
    plane: NDArray[Any],
    source: NDArray[Any],
    box: tuple[slice, ...],
    displacements: NDArray[np.float64],
    shares: NDArray[np.float64],
) -> None:
    """Write to ``plane`` the mean of ``source`` in ``box`` at several displacements, interpolated linearly."""
    whole = np.floor(displacements)
    part = displacements - whole
    first = whole.min(axis=0)
    # many sections lie in few voxels: one weight for every voxel that is read
    weights = np.zeros((whole.max(axis=0) - first + 2).astype(int))
    for corner in product((0, 1), repeat=len(box)):
        places = (whole + corner - first).astype(int)
        np.add.at(weights, tuple(places.T), shares * np.prod(np.where(corner, part, 1 - part), axis=1))
    plane[...] = 0
    for place in np.argwhere(weights):
        plane += float(weights[tuple(place)]) * _displaced(source, box, first + place)


def _nearest(displacements: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the whole voxels between a voxel and the one in which its displaced center lies."""
    return np.floor(displacements + 0.5)


def _median(values: NDArray[np.float64], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the weighted median of every column, and of two medians the one nearer to 0."""
    medians = np.empty(values.shape[1])
    for column, ordered in enumerate(np.argsort(values, axis=0).T):
        ranks = 2 * np.cumsum(weights[ordered])
        total = ranks[-1] // 2
        ends = ordered[[np.searchsorted(ranks, total), np.searchsorted(ranks, total, side="right")]]
        medians[column] = min(values[ends, column], key=abs)
    return medians


MisalignedOptions = options_of(
    MisalignedSections, "misaligned_sections", without=("arrays", "replay"), base=SectionOptions
)
