"""A look at every source of a run, at its metadata alone: what is there, and what cannot be learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod

from funlib.geometry import Roi

from scalenet_gp.errors import ConfigError, DataError, ScaleNetError, VolumeFormatError
from scalenet_gp.geometry import format_size
from scalenet_gp.pipelines.config import Region, Use
from scalenet_gp.pipelines.data.boxes import finest_output
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.datasets import Datasets
from scalenet_gp.pipelines.data.input_coverage import check_inputs_cover
from scalenet_gp.pipelines.data.sources import Source

__all__ = ["COUNTED_SOURCES", "SourceSurvey", "Survey", "survey", "survey_source"]

COUNTED_SOURCES = 8
"""Sources whose labels are counted before a run: to read those of more takes long, and `scalenet-gp check` does it."""

_Box = tuple[tuple[Fraction, ...], tuple[Fraction, ...]]
"""Begin and end, nm in the volume's own coordinates."""

_LISTED = 7
_USES: Mapping[Use, str] = {"train": "to train on", "validate": "to validate with", "evaluate": "to evaluate"}


@dataclass(slots=True)
class SourceSurvey:
    """The content of a source by its metadata.

    Attributes:
        source: the source.
        voxel_sizes: nm, of every level of the raw data.
        extent: nm, of the raw data.
        annotated: the annotated box, nm from the raw volume's corner; None if it cannot be told.
        box: the same in the volume's own coordinates, within the region of the source's own use.
        classes: for each class, whether it has labels here.
        errors: what is wrong, each as it was raised.
    """

    source: Source
    voxel_sizes: tuple[tuple[Fraction, ...], ...] = ()
    extent: tuple[Fraction, ...] = ()
    annotated: Region | None = None
    box: _Box | None = None
    classes: Mapping[str, bool] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)

    @contextmanager
    def keeping_errors(self) -> Iterator[None]:
        """Keep an error that a user can mend instead of raising it."""
        try:
            yield
        except (ScaleNetError, OSError) as error:
            self.errors.append(error)


@dataclass(frozen=True, slots=True)
class Survey:
    """The content of all sources of a run by their metadata.

    Attributes:
        sources: each source.
        uses: the number of sources for each purpose.
        annotated: voxels of the finest output in the annotated boxes to train on, summed over the sources.
        errors: what is wrong with all of them together.
    """

    sources: Sequence[SourceSurvey]
    uses: Mapping[Use, int]
    annotated: int
    errors: Sequence[Exception]

    def check(self) -> None:
        """Check that nothing is wrong.

        Raises:
            ScaleNetError, OSError: the only fault.
            ConfigError: several faults; the message names the first of them.
        """
        faults = [error for one in self.sources for error in one.errors] + list(self.errors)
        if len(faults) == 1 or len(self.sources) == 1:
            for fault in faults:
                raise fault
        if faults:
            more = f"; and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
            raise ConfigError(
                f"{len(faults)} faults in {len(self.sources)} sources, which `scalenet-gp check` lists: "
                f"{'; '.join(str(fault) for fault in faults[:_LISTED])}{more}"
            )

    def lines(self) -> list[str]:
        """Return what was found, in at most ten lines."""
        told = ", ".join(f"{count} {_USES[use]}" for use, count in self.uses.items() if count)
        sizes = Counter(format_size(one.voxel_sizes[0]) for one in self.sources if one.voxel_sizes)
        common = [f"{size} nm ({count})" for size, count in sizes.most_common(4)]
        more = f", {len(sizes) - 4} others" if len(sizes) > 4 else ""
        known = Counter(name for one in self.sources for name, there in one.classes.items() if there)
        classes = [f"{name} {count}" for name, count in known.most_common()]
        listed = ", ".join(classes[:12]) + (f", {len(classes) - 12} others" if len(classes) > 12 else "")
        counting = (
            "; `scalenet-gp check` counts the shares of classes in it" if self.uses["train"] > COUNTED_SOURCES else ""
        )
        return [
            f"sources: {len(self.sources)}; {told}",
            f"annotated, to train on: boxes of {self.annotated:,} voxels of the finest output{counting}",
            f"voxel sizes of raw data: {', '.join(common)}{more}",
            f"sources that have labels of a class: {listed}",
        ]


def survey(datasets: Datasets) -> Survey:
    """Look at the metadata of every source. Nothing is raised: see :meth:`Survey.check`."""
    found = [survey_source(datasets, source) for source in datasets.sources if source.config.weight]
    uses: dict[Use, int] = {use: len(datasets.of(use)) for use in _USES}
    learned = {source.name for source in datasets.of("train")}
    errors: list[Exception] = []
    whole = [one for one in found if one.classes and one.source.name in learned]
    for name in datasets.config.data.classes if whole else ():
        if not any(one.classes[name] for one in whole):
            errors.append(
                DataError(f"data.classes.{name}: no source to train on has labels of it, so it cannot be learned")
            )
    _check_apart(found, datasets)
    boxes = [one.box for one in found if one.box is not None and one.source.name in learned]
    voxel = datasets.net.specs[finest_output(datasets.net)].voxel_size
    annotated = sum(prod((e - b) / v for b, e, v in zip(*box, voxel, strict=True)) for box in boxes)
    return Survey(found, uses, int(annotated), errors)


def survey_source(datasets: Datasets, source: Source) -> SourceSurvey:
    """Look at the metadata of a source."""
    found = SourceSurvey(source)
    with found.keeping_errors(), source.naming_faults():
        dataset = datasets.open(source)
        levels = dataset.raw.levels
        found.voxel_sizes = tuple(level.voxel_size for level in levels)
        found.extent = dataset.extent().end  # type: ignore[assignment] # all of its bounds are given
        dataset.inputs.check_levels()
        volumes = dataset.class_volumes()
        found.classes = {
            name: any(volumes[member].volume is not None for member in members)
            for name, members in dataset.groups.items()
        }
        dataset.target_sources()  # raises if labels cannot give the voxels of an output
        labelled = dataset.labelled()
        found.annotated = dataset.region(labelled)
        _check_overlap(dataset, labelled)
        if source in datasets.of("train"):
            dataset.inputs.check_directions()
        check_inputs_cover(datasets, dataset)
        if source in datasets.of("train") or source.use is not None:
            region = {
                "train": dataset.training_region,
                "validate": None if dataset.run.validation is None else dataset.run.validation.region,
                "evaluate": dataset.run.evaluation.region,
            }[source.use or "train"]
            if region is not None:
                with source.naming_faults("region" if source.use else ""):
                    part = dataset.annotated(region)
                found.box = _box(dataset, part)
    return found


def _box(dataset: Dataset, roi: Roi) -> _Box:
    begin, end = (dataset.world.position_in_nm(corner) for corner in (roi.begin, roi.end))
    return tuple(begin), tuple(end)


def _check_overlap(dataset: Dataset, labelled: Roi) -> None:
    """Check that raw data and labels lie on one another. Padding is for what surrounds the labels.

    Raises:
        VolumeFormatError: they lie apart; a coordinate is wrong then.
    """
    begin, end = _box(dataset, labelled)
    whole = dataset.raw.levels[0]
    if any(e <= first or b >= last for b, e, first, last in zip(begin, end, whole.begin, whole.end, strict=True)):
        source = dataset.source
        raise VolumeFormatError(
            f"{source.field}: raw data and labels lie apart: {source.config.labels} from {format_size(begin)} to "
            f"{format_size(end)} nm, {source.config.raw} from {format_size(whole.begin)} to {format_size(whole.end)} "
            f"nm; the positions of the two have to be in one coordinate system, see {source.field}.translation"
        )


def _check_apart(found: Sequence[SourceSurvey], datasets: Datasets) -> None:
    """Note sources of one raw volume in which the same annotation is learned from and assessed."""
    allowed = datasets.config.evaluation.allow_training_region
    by_raw: dict[str, list[SourceSurvey]] = {}
    for one in found:
        if one.box is not None and one.source.use is not None:
            by_raw.setdefault(one.source.config.raw, []).append(one)
    for several in by_raw.values():
        learned = [one for one in several if one.source.use == "train"]
        for one in several:
            if one.source.use == "train" or (one.source.use == "evaluate" and allowed):
                continue
            other = next((other for other in learned if _share(one.box, other.box)), None)
            if other is not None:
                one.errors.append(
                    ConfigError(
                        f"{one.source.field}: {one.source.name}, {_USES[one.source.use or 'train']}, shares annotated "
                        f"voxels with {other.source.name}, which is learned from; give one a region"
                    )
                )


def _share(one: _Box | None, other: _Box | None) -> bool:
    if one is None or other is None:
        return False
    return all(b < f and e > a for b, e, a, f in zip(*one, *other, strict=True))
