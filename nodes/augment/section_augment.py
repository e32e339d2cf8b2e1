"""Sections that are missing or pale: as serial sections have them, and the same at every voxel size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from math import isfinite
from operator import index
from typing import Any, Generic, SupportsIndex, final

import numpy as np
from gunpowder import Array, ArrayKey, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError
from scalenet_gp.nodes.augment.random_augment import (
    DrawnParameters,
    DrawnT,
    RandomAugment,
    as_interval,
    as_probability,
    as_whole,
    check_intensities,
    writable_data,
)

__all__ = [
    "LowContrast",
    "LowContrastSections",
    "Missing",
    "MissingSections",
    "SectionAugment",
    "choose_sections",
]


class SectionAugment(RandomAugment[DrawnT], Generic[DrawnT]):
    """Changes whole serial sections, each drawn once for all arrays of a batch.

    Section number n lies between ``origin + n * thickness`` and ``origin + (n + 1) * thickness`` along ``axis``, in
    world units. A voxel changes by the share that altered sections have in it: one that lies in a single section
    wholly or not at all, a coarse one that spans several of them by the sum of their shares.

    Sections are counted in the ROIs that reach the node. So its place is downstream of :class:`.DeformAugment`, whose
    rotation would tilt them. Where a :class:`.SampleLocation` is downstream, those ROIs are the ones that it has moved:
    sections are those of the volume, and a replay needs the same place, which is the replay of its record, too.

    Args:
        arrays: those to change. Those not requested are left out.
        thickness: of a section, whole world units.
        axis: the spatial axis across the sections, 0 is the first.
        origin: where a section begins, world units.
        p: how likely a batch is to be changed at all.
        replay: a record of an earlier batch, applied to every batch instead of a draw.

    Raises:
        ValueError: an argument is out of its range; or, when the pipeline is built: an array has no voxel size, or no
            such axis.
        KeyError: when the pipeline is built: an array is not provided upstream.
    """

    def __init__(
        self, arrays: Iterable[ArrayKey], thickness: int, *, axis: int, origin: int, p: float, replay: str | None
    ) -> None:
        super().__init__(arrays, p=p, replay=replay)
        self.thickness, self.origin = as_whole("thickness", thickness), as_whole("origin", origin)
        if self.thickness <= 0:
            raise ArgumentError(f"thickness is {thickness!r}; a section is at least one world unit thick")
        if not isinstance(axis, SupportsIndex) or axis < 0:
            raise ArgumentError(f"axis is {axis!r}; write a whole number, spatial axes count from 0")
        self.axis = index(axis)

    def setup(self) -> None:
        super().setup()
        for key in self.arrays:
            voxel_size = self.spec[key].voxel_size
            if voxel_size is None or len(voxel_size) <= self.axis:
                raise ArgumentError(
                    f"the voxel size of {key} is {voxel_size}, it has no axis {self.axis} across sections"
                )

    def sections(self, rois: Iterable[Roi]) -> range:
        """The numbers of the sections that the union of ``rois`` touches."""
        bounds = [(roi.begin[self.axis], roi.end[self.axis]) for roi in rois if not roi.empty]
        if not bounds:
            return range(0)
        begin, end = min(begin for begin, _ in bounds), max(end for _, end in bounds)
        return range((begin - self.origin) // self.thickness, -((self.origin - end) // self.thickness))

    def overlaps(self, roi: Roi, length: int) -> tuple[range, NDArray[np.int64]]:
        """How much of each section lies in each voxel.

        Args:
            roi: whose voxels.
            length: of a voxel across the sections, world units.

        Returns:
            The numbers of the sections in ``roi``; and in world units, (voxel, section), what they share with each
            voxel: every row sums to ``length``.
        """
        sections = self.sections([roi])
        voxel_begin = np.arange(roi.begin[self.axis], roi.end[self.axis], length, dtype=np.int64)[:, np.newaxis]
        section_begin = self.origin + np.asarray(sections, dtype=np.int64) * self.thickness
        begin = np.maximum(voxel_begin, section_begin)
        end = np.minimum(voxel_begin + length, section_begin + self.thickness)
        return sections, np.maximum(end - begin, 0)


class _Repainted(SectionAugment[DrawnT], Generic[DrawnT]):
    """Every value a of an altered section becomes ``factor * a + offset``."""

    @abstractmethod
    def factors(self, drawn: DrawnT) -> Mapping[int, tuple[float, float]]:
        """``(factor, offset)`` of the altered sections, by their numbers."""

    def apply(self, key: ArrayKey, array: Array, roi: Roi, drawn: DrawnT) -> NDArray[Any]:
        check_intensities(key, array.data, type(self).__name__, bounded=False)
        data, spec = writable_data(array), array.spec
        length = spec.voxel_size[self.axis]
        sections, overlaps = self.overlaps(spec.roi, length)
        factors = self.factors(drawn)
        changes = np.array([factors.get(section, (1.0, 0.0)) for section in sections]).reshape(-1, 2)
        kept = 1 + overlaps @ (changes[:, 0] - 1) / length
        added = overlaps @ changes[:, 1] / length
        planes = np.moveaxis(data, self.axis - len(spec.voxel_size), 0)
        for plane in np.flatnonzero((kept != 1) | (added != 0)):
            planes[plane] *= float(kept[plane])
            planes[plane] += float(added[plane])
        return data


@final
class Missing(DrawnParameters):
    """What :class:`MissingSections` draws: the numbers of the missing sections."""

    sections: tuple[int, ...]


@final
class MissingSections(_Repainted[Missing]):
    """Replace sections by one value, as where a section was lost.

    A voxel that a missing section fills becomes ``value``. Of a coarse voxel only its mean v is known, so it becomes
    ``(1 - share) * v + share * value``: exact where v is the mean of the missing sections, too. Section n lies between
    ``origin + n * thickness`` and ``origin + (n + 1) * thickness`` in the ROIs that reach the node, whose place is
    downstream of :class:`.DeformAugment`. What was drawn is kept as ``array.attrs["missing_sections"]``, see
    :class:`Missing`; applied again it alters the same sections of the same place, so a :class:`.SampleLocation`
    downstream has to be given its record, too.

    Args:
        arrays: the intensity arrays, of a float type. Those not requested are left out.
        thickness: of a section, whole world units.
        probability: how likely each section is to be missing.
        value: what stands in its place.
        axis: the spatial axis across the sections, 0 is the first.
        origin: where a section begins, world units.
        p: how likely a batch is to be changed at all.
        replay: a record of an earlier batch, applied to every batch instead of a draw.

    Raises:
        ValueError: an argument is out of its range; or, for a batch: an array is not of a float type; or, when the
            pipeline is built: an array has no voxel size, or no such axis.
        KeyError: when the pipeline is built: an array is not provided upstream.
    """

    record_name = "missing_sections"
    parameters = Missing

    def __init__(
        self,
        arrays: Iterable[ArrayKey],
        thickness: int,
        probability: float,
        *,
        value: float = 0.0,
        axis: int = 0,
        origin: int = 0,
        p: float = 1.0,
        replay: str | None = None,
    ) -> None:
        super().__init__(arrays, thickness, axis=axis, origin=origin, p=p, replay=replay)
        self.probability = as_probability("probability", probability)
        if not isfinite(value):
            raise ArgumentError(f"value is {value!r}; write a finite intensity")
        self.value = float(value)

    def draw(self, generator: np.random.Generator, rois: Mapping[ArrayKey, Roi]) -> Missing:
        return Missing(sections=choose_sections(generator, self.sections(rois.values()), self.probability))

    def factors(self, drawn: Missing) -> Mapping[int, tuple[float, float]]:
        return dict.fromkeys(drawn.sections, (0.0, self.value))


@final
class LowContrast(DrawnParameters):
    """What :class:`LowContrastSections` draws: the contrast factors of the pale sections, by their numbers."""

    factors: dict[int, float]


@final
class LowContrastSections(_Repainted[LowContrast]):
    """Lower the contrast of sections about the middle of the range, as where one was stained too little.

    Every value a of a pale section becomes ``(a - 1/2) * factor + 1/2``. Of a coarse voxel only its mean v is known, so
    it changes by the pale sections' shares, as if each had the mean v. Section n lies between
    ``origin + n * thickness`` and ``origin + (n + 1) * thickness`` in the ROIs that reach the node, whose place is
    downstream of :class:`.DeformAugment`. What was drawn is kept as ``array.attrs["low_contrast_sections"]``, see
    :class:`LowContrast`; applied again it alters the same sections of the same place, so a :class:`.SampleLocation`
    downstream has to be given its record, too.

    Args:
        arrays: the intensity arrays, of a float type, that stand for [0, 1]. Those not requested are left out.
        thickness: of a section, whole world units.
        probability: how likely each section is to be pale.
        factor: the contrast factor, or its bounds; drawn for each pale section.
        axis: the spatial axis across the sections, 0 is the first.
        origin: where a section begins, world units.
        p: how likely a batch is to be changed at all.
        replay: a record of an earlier batch, applied to every batch instead of a draw.

    Raises:
        ValueError: an argument is out of its range; or, for a batch: an array is not of a float type; or, when the
            pipeline is built: an array has no voxel size, or no such axis.
        KeyError: when the pipeline is built: an array is not provided upstream.
    """

    record_name = "low_contrast_sections"
    parameters = LowContrast

    def __init__(
        self,
        arrays: Iterable[ArrayKey],
        thickness: int,
        probability: float,
        *,
        factor: tuple[float, float] | float = 0.1,
        axis: int = 0,
        origin: int = 0,
        p: float = 1.0,
        replay: str | None = None,
    ) -> None:
        super().__init__(arrays, thickness, axis=axis, origin=origin, p=p, replay=replay)
        self.probability = as_probability("probability", probability)
        self.factor = as_interval("factor", factor, least=0)

    def draw(self, generator: np.random.Generator, rois: Mapping[ArrayKey, Roi]) -> LowContrast:
        chosen = choose_sections(generator, self.sections(rois.values()), self.probability)
        return LowContrast(factors={section: generator.uniform(*self.factor) for section in chosen})

    def factors(self, drawn: LowContrast) -> Mapping[int, tuple[float, float]]:
        return {section: (factor, 0.5 - 0.5 * factor) for section, factor in drawn.factors.items()}


def choose_sections(generator: np.random.Generator, sections: range, probability: float) -> tuple[int, ...]:
    """Each of ``sections`` with equal probability."""
    return tuple(sections[n] for n in np.flatnonzero(generator.random(len(sections)) < probability))
