"""The data that a run learns from, in words: regions that were meant in voxels and classes without labels show."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from funlib.geometry import Coordinate

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import format_size
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.data import COUNTED_SOURCES, AnnotationCounts, Datasets, count_annotation, say_if_small
from scalenet_gp.volumes import read_separately

__all__ = ["LearnedFrom", "describe_data"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LearnedFrom:
    """The data that a run learns from.

    Attributes:
        path: path of the raw volume.
        region: the part of the training region that any class is annotated in.
        voxels: its shape in voxels of the finest output.
        voxel_size: the size of these, in words.
        annotation: voxels of each class there.
    """

    path: str
    region: Region
    voxels: tuple[int, ...]
    voxel_size: str
    annotation: AnnotationCounts

    def __str__(self) -> str:
        classes = []
        for name in self.annotation.known:
            known, present = self.annotation.shares(name)
            annotated = "" if known == 1 else f" of the {_percent(known)} that are annotated"
            classes.append(f"{name} {_percent(present)}{annotated}")
        return (
            f"learning from {self.path}: {self.region}, {' × '.join(map(str, self.voxels))} voxels of "
            f"{self.voxel_size} nm; {', '.join(classes)}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a report: the volume, the region, its voxels, and the shares of each class."""
        shares = {name: self.annotation.shares(name) for name in self.annotation.known}
        return {
            "path": self.path,
            "region": self.region.model_dump(mode="json"),
            "voxels": list(self.voxels),
            "classes": {name: {"annotated": known, "present": present} for name, (known, present) in shares.items()},
        }


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def describe_data(datasets: Datasets) -> tuple[LearnedFrom, ...]:
    """Return what a run learns from, and say what a user should know of it before training begins.

    Of more sources than :data:`.COUNTED_SOURCES` only the metadata are looked at: :meth:`.Survey.lines` says so.

    Raises:
        ConfigError: no class is annotated in any voxel, so that every loss would be zero.
        FileNotFoundError, ScaleNetError: as :meth:`.Dataset.annotated`.
    """
    sources = datasets.of("train")
    if len(sources) > COUNTED_SOURCES:
        return ()
    opened = [datasets.open(source) for source in sources]
    parts = [dataset.annotated(dataset.training_region) for dataset in opened]

    def count() -> list[AnnotationCounts]:
        return [count_annotation(dataset, roi) for dataset, roi in zip(opened, parts, strict=True)]

    counted = read_separately(count)
    _check_known(counted, opened[0].region(parts[0]) if len(opened) == 1 else None)
    sample = datasets.boxes(datasets.config.training.output_shape)[datasets.first.finest].shape
    learned = []
    for dataset, roi, counts in zip(opened, parts, counted, strict=True):
        say_if_small(dataset.net, roi, sample, "the annotated part of training.region")
        size = dataset.net.voxel_size[dataset.finest]
        learned.append(
            LearnedFrom(
                dataset.raw.path,
                dataset.region(roi),
                tuple(map(int, roi.shape / Coordinate(size))),
                format_size(dataset.world.size_in_nm(size)),
                counts,
            )
        )
    return tuple(learned)


def _check_known(counted: Sequence[AnnotationCounts], region: Region | None) -> None:
    """Refuse classes that are unknown everywhere, if no other is known, and say which are unknown or absent.

    Raises:
        ConfigError: all classes are unknown in every voxel.
    """
    known, present = (
        {name: sum(getattr(counts, what)[name] for counts in counted) for name in counted[0].known}
        for what in ("known", "present")
    )
    unknown = [name for name, count in known.items() if not count]
    where = "all sources to train on" if region is None else f"the training region {region}"
    cure = "where labels say only that a class is not annotated, give another region or other labels"
    if len(unknown) == len(known):
        raise ConfigError(
            f"{', '.join(unknown)}: unknown in every voxel of {where}, of which nothing can be learned; {cure}"
        )
    for name in unknown:
        _logger.warning("%s is unknown in every voxel of %s, so that nothing is learned of it; %s", name, where, cure)
    for name in known:
        if known[name] and not present[name]:
            _logger.warning("%s is absent from all voxels of %s in which it is annotated", name, where)
