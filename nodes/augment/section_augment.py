"""Sections that are missing or pale, as serial sections can be, and the same at every voxel size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from operator import index
from typing import Any, Generic, SupportsIndex, Unpack, final

import numpy as np
from gunpowder import Array, ArrayKey, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError, PipelineError
from scalenet_gp.nodes.augment.augment import AugmentOptions, DrawnParameters, as_probability
from scalenet_gp.nodes.augment.random_augment import (
    AugmentArguments,
    DrawnT,
    RandomAugment,
    as_interval,
    as_whole,
    check_intensities,
    writable_data,
)
from scalenet_gp.options import Probability, WholeLength, options_of

__all__ = [
    "LowContrast",
    "LowContrastOptions",
    "LowContrastSections",
    "Missing",
    "MissingOptions",
    "MissingSections",
    "SectionArguments",
    "SectionAugment",
    "SectionOptions",
    "choose_sections",
    "describe_counts",
]


class SectionArguments(AugmentArguments, total=False):
    """Keyword arguments of every :class:`SectionAugment`."""

    axis: int
    origin: int


class SectionAugment(RandomAugment[DrawnT], Generic[DrawnT]):
    """Change whole serial sections, each drawn once for all arrays of a batch.

    Section n lies between ``origin + n * thickness`` and ``origin + (n + 1) * thickness`` along ``axis``, in world
    units. A voxel changes by the share that altered sections have in it. A voxel that lies in a single section changes
    fully or not at all, a coarse voxel that spans several sections by the sum of their shares.

    Sections are counted in the ROIs that reach the node. So it goes downstream of :class:`.DeformAugment`, whose
    rotation would tilt them. A :class:`.SampleLocation` downstream moves those ROIs: sections are those of the volume.
    The record applied again alters the same sections at the same location, so the :class:`.SampleLocation` has to be
    given its record, too.

    Args:
        arrays: the arrays to change. Those that are not requested are left out.
        thickness: the thickness of a section, whole world units.
        axis: the spatial axis across the sections, 0 is the first.
        origin: the position at which a section begins, world units. In a run file it counts from the corner of the raw
            volume.
        arguments: ``p`` and ``replay``, see :class:`RandomAugment`.

    Raises:
        ArgumentError: an argument is out of its range; or, when the pipeline is built: an array has no voxel size, or
            no such axis.
        UnknownNameError: when the pipeline is built: an array is not provided upstream.
    """

    def __init__(
        self,
        arrays: Iterable[ArrayKey],
        thickness: WholeLength,
        *,
        axis: int = 0,
        origin: WholeLength = 0,
        **arguments: Unpack[AugmentArguments],
    ) -> None:
        super().__init__(arrays, **arguments)
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
                raise PipelineError(
                    f"the voxel size of {key} is {voxel_size}, it has no axis {self.axis} across sections"
                )

    def sections(self, rois: Iterable[Roi]) -> range:
        """Return the numbers of the sections that the union of ``rois`` touches."""
        bounds = [(roi.begin[self.axis], roi.end[self.axis]) for roi in rois if not roi.empty]
        if not bounds:
            return range(0)
        begin, end = min(begin for begin, _ in bounds), max(end for _, end in bounds)
        return range((begin - self.origin) // self.thickness, -((self.origin - end) // self.thickness))

    def overlaps(self, roi: Roi, length: int) -> tuple[range, NDArray[np.int64]]:
        """Return how much of each section lies in each voxel.

        Args:
            roi: the box of the voxels.
            length: the length of a voxel across the sections, world units.

        Returns:
            The numbers of the sections in ``roi``; and the lengths, (voxel, section), in world units, that each section
            shares with each voxel: every row sums to ``length``.
        """
        sections = self.sections([roi])
        voxel_begin = np.arange(roi.begin[self.axis], roi.end[self.axis], length, dtype=np.int64)[:, np.newaxis]
        section_begin = self.origin + np.asarray(sections, dtype=np.int64) * self.thickness
        begin = np.maximum(voxel_begin, section_begin)
        end = np.minimum(voxel_begin + length, section_begin + self.thickness)
        return sections, np.maximum(end - begin, 0)


class SectionOptions(AugmentOptions):
    """Abstract: the options of a node that changes sections, which are counted from the corner of the raw volume."""

    def place_at(self, corner: Sequence[int], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        axis = arguments["axis"]
        if axis >= len(corner):  # the node refuses it when the pipeline is built
            return arguments
        return {**arguments, "origin": arguments["origin"] + corner[axis]}


class _LinearSectionAugment(SectionAugment[DrawnT], Generic[DrawnT]):
    """Abstract: turn every value a of an altered section into ``factor * a + offset``."""

    @abstractmethod
    def factors(self, drawn: DrawnT) -> Mapping[int, tuple[float, float]]:
        """Return ``(factor, offset)`` of the altered sections, by their numbers."""

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
    """The draw of :class:`MissingSections`: the numbers of the missing sections."""

    sections: tuple[int, ...]

    def describe(self, unit: float) -> list[str]:
        return describe_counts({"missing sections": len(self.sections)})


@final
class MissingSections(_LinearSectionAugment[Missing]):
    """Replace sections by one value, as if a section was lost.

    A voxel that a missing section fills becomes ``value``. Only the mean v of a coarse voxel is known, so it becomes
    ``(1 - share) * v + share * value``, which is exact if v is the mean of the missing sections, too.
    :class:`SectionAugment` says where sections lie, and where the node goes in a chain. The draw is kept as
    ``array.attrs["missing_sections"]``, see :class:`Missing`.

    Args:
        arrays: the intensity arrays, of a float type.
        thickness: the thickness of a section, whole world units.
        probability: the probability of each section to be missing.
        value: the intensity of a missing section.
        arguments: ``axis`` and ``origin``, see :class:`SectionAugment`; ``p`` and ``replay``, see
            :class:`RandomAugment`.

    Raises:
        ArgumentError, UnknownNameError: as :class:`SectionAugment`.
        DataError: for a batch: an array is not of a float type.

    Example:
        >>> import gunpowder as gp
        >>> MissingSections([gp.ArrayKey("RAW")], thickness=50, probability=0.01).thickness
        50
    """

    record_name = "missing_sections"
    parameters = Missing

    def __init__(
        self,
        arrays: Iterable[ArrayKey],
        thickness: WholeLength,
        probability: Probability,
        *,
        value: float = 0.0,
        **arguments: Unpack[SectionArguments],
    ) -> None:
        super().__init__(arrays, thickness, **arguments)
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
    """The draw of :class:`LowContrastSections`: the contrast factors of the pale sections, by their numbers."""

    factors: dict[int, float]

    def describe(self, unit: float) -> list[str]:
        return describe_counts({"pale sections": len(self.factors)})


@final
class LowContrastSections(_LinearSectionAugment[LowContrast]):
    """Lower the contrast of sections about the middle of the range, as if a section was stained too little.

    Every value a of a pale section becomes ``(a - 1/2) * factor + 1/2``. Only the mean v of a coarse voxel is known, so
    it changes by the pale sections' shares, as if each had the mean v. :class:`SectionAugment` says where sections lie,
    and where the node goes in a chain. The draw is kept as ``array.attrs["low_contrast_sections"]``, see
    :class:`LowContrast`.

    Args:
        arrays: the intensity arrays, of a float type, that stand for [0, 1].
        thickness: the thickness of a section, whole world units.
        probability: the probability of each section to be pale.
        factor: the contrast factor, or its bounds; drawn for each pale section.
        arguments: ``axis`` and ``origin``, see :class:`SectionAugment`; ``p`` and ``replay``, see
            :class:`RandomAugment`.

    Raises:
        ArgumentError, UnknownNameError: as :class:`SectionAugment`.
        DataError: for a batch: an array is not of a float type.

    Example:
        >>> import gunpowder as gp
        >>> LowContrastSections([gp.ArrayKey("RAW")], 50, 0.01, factor=(0.1, 0.5)).factor
        (0.1, 0.5)
    """

    record_name = "low_contrast_sections"
    parameters = LowContrast

    def __init__(
        self,
        arrays: Iterable[ArrayKey],
        thickness: WholeLength,
        probability: Probability,
        *,
        factor: tuple[float, float] | float = 0.1,
        **arguments: Unpack[SectionArguments],
    ) -> None:
        super().__init__(arrays, thickness, **arguments)
        self.probability = as_probability("probability", probability)
        self.factor = as_interval("factor", factor, least=0)

    def draw(self, generator: np.random.Generator, rois: Mapping[ArrayKey, Roi]) -> LowContrast:
        chosen = choose_sections(generator, self.sections(rois.values()), self.probability)
        return LowContrast(factors={section: generator.uniform(*self.factor) for section in chosen})

    def factors(self, drawn: LowContrast) -> Mapping[int, tuple[float, float]]:
        return {section: (factor, 0.5 - 0.5 * factor) for section, factor in drawn.factors.items()}


def choose_sections(generator: np.random.Generator, sections: range, probability: float) -> tuple[int, ...]:
    """Draw each of ``sections`` with the same probability."""
    return tuple(sections[n] for n in np.flatnonzero(generator.random(len(sections)) < probability))


def describe_counts(counts: Mapping[str, int]) -> list[str]:
    """Return phrases such as ``missing sections 2``, without those that count 0."""
    return [f"{name} {count}" for name, count in counts.items() if count]


MissingOptions = options_of(MissingSections, "missing_sections", without=("arrays", "replay"), base=SectionOptions)
LowContrastOptions = options_of(
    LowContrastSections, "low_contrast_sections", without=("arrays", "replay"), base=SectionOptions
)
