"""A look at the data of a run file: what is annotated in each source, how bright it is, and what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gunpowder as gp
import numpy as np
from funlib.geometry import Coordinate, Roi
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy import ndimage

from scalenet_gp.errors import ScaleNetError
from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Plan
from scalenet_gp.nodes import ClassTargets
from scalenet_gp.pipelines.blockwise import tiles
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import Dataset, Datasets, SourceSurvey, compare_intensities, context_shares, survey
from scalenet_gp.pipelines.plots import draw_sources
from scalenet_gp.pipelines.process import progress_bar
from scalenet_gp.volumes import IntensitySample, StrPath

__all__ = ["CheckResult", "ClassAmount", "SourceCheck", "check", "check_table"]

_EDGE = 128
"""Voxels along an edge of the blocks that are read."""

_COUNTED_OBJECTS = 2**25
"""Voxels of the largest box in which connected components are counted, in one piece."""

_SAMPLED = 8
_SAMPLE_EDGE = 32
_PERCENTILES = (0.5, 50.0, 99.5)
_CLASSES = 6


@dataclass(frozen=True, slots=True)
class ClassAmount:
    """The annotation of a class in a source, at the voxel size of the finest output.

    Attributes:
        present: voxels of the class.
        known: voxels in which its presence or absence is known.
        objects: connected components of the class; None where the annotation is too large to count them.

    Example:
        >>> ClassAmount(present=30, known=120, objects=2).share
        0.25
    """

    present: int
    known: int
    objects: int | None

    @property
    def share(self) -> float:
        """The share of the known voxels that is of the class; NaN where nothing is known."""
        return self.present / self.known if self.known else math.nan


@dataclass(slots=True)
class SourceCheck:
    """The content of a source, and its faults.

    Attributes:
        survey: its metadata.
        classes: the annotation of each class.
        percentiles: of the raw data round the annotation, as stored: 0.5, 50 and 99.5 %.
        window: the intensities that the network sees as -1 and 1, as stored; those that ``auto`` samples, too.
        outside: the share of the raw data that is darker or brighter.
        context: for each input of the network, the share of it that lies within the raw volume.
        faults: what is wrong, a sentence each.

    Example:
        >>> from scalenet_gp.pipelines.config import SourceConfig
        >>> from scalenet_gp.pipelines.data import Source
        >>> source = Source("crop1", "data.sources.0", SourceConfig(raw="raw", labels="crop1"))
        >>> SourceCheck(SourceSurvey(source), faults=["it is black"]).faults
        ['it is black']
    """

    survey: SourceSurvey
    classes: Mapping[str, ClassAmount] = field(default_factory=dict)
    percentiles: tuple[float, ...] = ()
    window: tuple[float, float] | None = None
    outside: float = math.nan
    context: Mapping[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The content of all sources of a run file, and its faults.

    Attributes:
        sources: each source.
        faults: what is wrong with all of them together.

    Example:
        >>> CheckResult([], ["no source has labels of mito"]).all_faults
        ['no source has labels of mito']
    """

    sources: Sequence[SourceCheck]
    faults: Sequence[str]

    @property
    def all_faults(self) -> list[str]:
        """All faults; none if training can begin."""
        return [fault for one in self.sources for fault in one.faults] + list(self.faults)


def check(config: Config, volume: StrPath, picture: Path | None = None) -> CheckResult:
    """Look at every source of a run file: read its annotation, and samples of its raw data, block by block.

    Args:
        config: the run file.
        volume: folder, or its URL, that paths of the config start at.
        picture: PNG file to make, with a section of each source.

    Raises:
        FileExistsError: there is something at ``picture``.
        FileNotFoundError, ScaleNetError: the run file names no sources that can be looked at.
    """
    if picture is not None and picture.exists():
        raise FileExistsError(f"{picture} exists; choose another one, or remove it")
    datasets = Datasets.find(volume, config, config.build_network())
    found = survey(datasets)
    checked = [SourceCheck(one, faults=[str(error) for error in one.errors]) for one in found.sources]
    faults = [str(error) for error in found.errors]
    whole = [one for one in checked if not one.survey.errors]
    plan = None
    if whole:
        try:
            plan = datasets.net.plan(datasets.boxes(config.training.output_shape))
        except (ScaleNetError, OSError) as error:
            faults += [] if len(whole) < len(checked) else [str(error)]
    with progress_bar("checking", len(whole)) as advance:
        for one in whole:
            try:
                _look_into(one, datasets.open(one.survey.source), plan)
            except (ScaleNetError, OSError) as error:
                one.faults.append(f"{one.survey.source.field}: {one.survey.source.name}: {error}")
            advance(one.survey.source.name)
    for name in config.data.classes:
        amounts = [one.classes[name] for one in whole if name in one.classes and _learned(one)]
        if any(amount.known for amount in amounts) and not any(amount.present for amount in amounts):
            faults.append(f"data.classes.{name}: no source to train on has a voxel of it")
    if picture is not None and whole:
        draw_sources((datasets.open(one.survey.source) for one in whole), len(whole), picture)
    return CheckResult(checked, faults)


def _learned(one: SourceCheck) -> bool:
    return one.survey.source.use in (None, "train")


def _look_into(one: SourceCheck, dataset: Dataset, plan: Plan | None) -> None:
    """Fill in what the voxels of a source say."""
    source, labelled = one.survey.source, dataset.labelled()
    one.classes = _amounts(dataset, labelled)
    if not any(amount.known for amount in one.classes.values()):
        one.faults.append(f"{source.field}.labels: {source.name}: no class is known in any voxel")
    elif not any(amount.present for amount in one.classes.values()):
        one.faults.append(f"{source.field}.labels: {source.name}: no voxel is of any class")
    if plan is not None:
        one.context = context_shares(dataset, plan, labelled)
    values = _sampled(dataset, labelled)
    finite = values[np.isfinite(values)]
    if len(finite) < len(values):
        one.faults.append(f"{source.field}.raw: {source.name}: {1 - len(finite) / len(values):.1%} are not numbers")
    if len(finite):
        one.percentiles = tuple(float(p) for p in np.percentile(finite, _PERCENTILES))
        if finite.min() == finite.max():
            one.faults.append(
                f"{source.field}.raw: {source.name}: all voxels round the annotation are {finite.min()}: it is empty"
            )
            return
        one.window = dataset.inputs.intensities.low, dataset.inputs.intensities.high
        sample = IntensitySample(dataset.raw.path, finite.astype(np.float64), dataset.raw.dtype.kind in "iub")
        one.outside = 1 - sample.share_within(*one.window)
        if dataset.inputs.intensity_options != "auto":
            fault, refused = compare_intensities(
                sample, dataset.raw.dtype, dataset.inputs.intensity_options, dataset.inputs.intensity_field
            )
            one.faults += [f"{source.field}: {source.name}: {fault}"] if refused else []


def _amounts(dataset: Dataset, labelled: Roi) -> dict[str, ClassAmount]:
    """Count the voxels and objects of each class, block by block."""
    target, mask = gp.ArrayKey("CHECKED"), gp.ArrayKey("CHECKED_MASK")
    size = dataset.net.voxel_size[dataset.finest]
    volumes = dataset.class_volumes()
    targets = ClassTargets(volumes, {target: size}, {target: mask}, dataset.world, groups=dataset.groups)
    names = list(dataset.groups)
    shape = tuple(int(n) for n in labelled.shape / size)
    whole = np.zeros((len(names), *shape), dtype=bool) if math.prod(shape) <= _COUNTED_OBJECTS else None
    present, known = np.zeros((2, len(names)), dtype=np.int64)
    for box in tiles(labelled, size * _EDGE):
        request = gp.BatchRequest({key: gp.ArraySpec(roi=box) for key in (target, mask)})
        reading = targets.start(request)
        of_class, sure = reading[target]() > 0, reading[mask]() > 0
        axes = tuple(range(1, of_class.ndim))
        present += of_class.sum(axis=axes)
        known += sure.sum(axis=axes)
        if whole is not None:
            whole[(slice(None), *((box - labelled.begin) / size).to_slices())] = of_class
    amounts = {}
    for number, name in enumerate(names):
        objects = None if whole is None else int(ndimage.label(whole[number])[1])
        amounts[name] = ClassAmount(int(present[number]), int(known[number]), objects)
    return amounts


def _sampled(dataset: Dataset, labelled: Roi) -> np.ndarray:
    """Return raw data of boxes in the annotated part, at fixed places: the values of one list."""
    size = dataset.net.voxel_size[dataset.finest]
    within = labelled.intersect(dataset.raw.roi(size, dataset.world))
    shape = Coordinate(min(_SAMPLE_EDGE, int(n)) for n in within.shape / size) * size
    generator = np.random.default_rng(0)
    values = []
    for _ in range(_SAMPLED):
        steps = [int(generator.integers(int(n) + 1)) for n in (within.shape - shape) / size]
        begin = within.begin + Coordinate(steps) * size
        values.append(dataset.raw.read(Roi(begin, shape), size, dataset.world).ravel())
    together = np.concatenate(values)
    return together.astype(together.dtype.newbyteorder("="), copy=False)


def check_table(result: CheckResult) -> Table:
    """Return the content of the sources as a table for the terminal, a line for each."""
    count = len(result.sources)
    table = Table(title=f"{count} source{'s' if count > 1 else ''}", title_justify="left", box=SIMPLE_HEAD)
    heads = ("source", "use", "voxel size", "extent, µm", "annotated, µm", "classes: share (objects)", "raw data")
    for head in (*heads, "context"):
        table.add_column(head)
    for one in result.sources:
        found = one.survey
        table.add_row(
            found.source.name,
            found.source.use or "by region",
            f"{format_size(found.voxel_sizes[0])} nm" if found.voxel_sizes else "?",
            _micrometres(found.extent),
            _micrometres(_annotated_size(found)),
            _class_column(one.classes),
            _raw_column(one),
            ", ".join(f"{share:.0%}" for share in one.context.values()),
            style="red" if one.faults else None,
        )
    inputs = next((one.context for one in result.sources if one.context), {})
    if inputs:
        table.caption = f"context: share of {', '.join(inputs)} that lies within the raw volume"
    return table


def _annotated_size(found: SourceSurvey) -> tuple[object, ...]:
    region = found.annotated
    if region is None:
        return ()
    return tuple(e - b for b, e in zip(region.begin, region.end, strict=True) if b is not None and e is not None)


def _micrometres(lengths: Sequence[object]) -> str:
    return " × ".join(f"{float(length) / 1000:.3g}" for length in lengths) or "?"  # type: ignore[arg-type]


def _class_column(classes: Mapping[str, ClassAmount]) -> str:
    parts = []
    for name, amount in sorted(classes.items(), key=lambda entry: -entry[1].present):
        if not amount.known:
            parts.append(f"{name} unknown")
        else:
            objects = "" if amount.objects is None else f" ({amount.objects})"
            parts.append(f"{name} {amount.share:.1%}{objects}")
    more = f" and {len(parts) - _CLASSES} more" if len(parts) > _CLASSES else ""
    return ", ".join(parts[:_CLASSES]) + more


def _raw_column(one: SourceCheck) -> str:
    if not one.percentiles:
        return "?"
    spread = " to ".join(f"{value:.4g}" for value in one.percentiles[::2])
    if one.window is None:
        return spread
    low, high = one.window
    return f"{spread}; {one.outside:.1%} outside {low:.4g} to {high:.4g}"
