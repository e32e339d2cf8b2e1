"""The job that segments a prediction block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scalenet_gp.errors import ConfigError, ScaleNetError, VolumeFormatError
from scalenet_gp.options import suggest
from scalenet_gp.pipelines.blockwise import Workers, WorkFolder, block_shape, run
from scalenet_gp.pipelines.config import Config, InstanceTargetsOptions, Region, TargetOptions, match_outputs
from scalenet_gp.pipelines.segmentation.job import SegmentationJob, SegmentedClass
from scalenet_gp.pipelines.segmentation.table import objects_path
from scalenet_gp.pipelines.segmentation.task import SegmentationTask
from scalenet_gp.segmentation import BallClosing, BallOpening, Heights, SegmentationMethod
from scalenet_gp.volumes import MultiscaleArrayWriter, MultiscaleImage, VolumeFingerprint, find_node, group_attributes

__all__ = ["check_finished", "segment", "segmentation_job"]

_BYTES = 32
"""Bytes of a voxel of a block, of each copy that :func:`.block_shape` counts: values, masks, distances, ids."""

_COPIES = 6

_ALONE = Workers(memory=2 * 2**30)
"""This process, with the memory that blocks take unless said otherwise."""


def segment(
    config: Config,
    prediction: Path,
    output: Path,
    region: Region | Literal["all"] | None = None,
    *,
    classes: Sequence[str] = (),
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
    workers: Workers | None = None,
) -> Path:
    """Find the objects of classes in a prediction, each class in an OME-Zarr volume of ids, with a table of them all.

    Objects are those of the region in one piece, however it is divided into blocks: their ids count from 1 in the order
    of their first voxels, in the smallest type of integers. Until it is finished, the segmentation is in the folder
    ``<output>.partial``. The same call resumes where an earlier one ended.

    Args:
        config: the run, with the options of the segmentation.
        prediction: zarr group that :func:`scalenet_gp.pipelines.prediction.predict` wrote. Each class is taken from the
            finest of its outputs that has it.
        output: zarr group to make, whole or not at all; ``output/mito`` is the volume of the class ``"mito"``.
        region: the region to segment, nm from the raw volume's corner; all that is predicted unless given.
        classes: the classes to segment, of those that the config chooses; all of these unless given.
        thresholds: the thresholds of classes, by output, that count where the config gives none, before
            ``evaluation.threshold``: those that :func:`scalenet_gp.pipelines.evaluation.choose_thresholds` chose.
        workers: processes that segment, and memory for each; this process alone unless given.

    Returns:
        ``output``. Its table is at :func:`objects_path`.

    Raises:
        FileExistsError: there is something at ``output``, or at the place of the table.
        FileNotFoundError: there is no such prediction.
        VolumeFormatError: it is not a prediction.
        ConfigError: the prediction has other classes than the config; there is no class to segment; the region reaches
            beyond the prediction; a threshold of exclusive classes; or the unfinished segmentation is another one.
        BlockingIOError: another process makes this output.
        UnfinishedBlocksError: some blocks could not be segmented; the others are done.
    """
    table = objects_path(output)
    for made in (output, table):
        if made.exists() and not (made == table and WorkFolder(output).path.exists()):
            raise FileExistsError(f"{made} exists; choose another output, or remove it")
    job = segmentation_job(config, prediction, output, region, classes=classes, thresholds=thresholds, workers=workers)
    return run(job.output, lambda: SegmentationTask(job), workers or _ALONE)


def segmentation_job(
    config: Config,
    prediction: Path,
    output: Path,
    region: Region | Literal["all"] | None = None,
    *,
    classes: Sequence[str] = (),
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
    workers: Workers | None = None,
) -> SegmentationJob:
    """Return the job of :func:`segment`; nothing is made. Raises as that."""
    memory = (workers or _ALONE).memory
    attributes = _attributes(prediction)
    found = _predicted(config, prediction, attributes)
    methods = config.segmentation.methods(list(found))
    for name in classes:
        if name not in methods:
            raise ConfigError(f"{prediction}: there is no class {name!r} to segment; {suggest(name, list(methods))}")
    chosen = {name: options for name, options in methods.items() if not classes or name in classes}
    if not chosen:
        raise ConfigError(
            f"{prediction} has no class to segment: segmentation.classes names {', '.join(config.segmentation.classes)}"
            f", and predicted {_predicted_in_words(found, config, attributes)}"
        )
    return SegmentationJob(
        output=output.absolute(),
        prediction=prediction.absolute(),
        networks=tuple(network["sha256"] for network in attributes["job"]["networks"]),
        classes={
            name: _part(
                found[name],
                name,
                _resolved(config, found[name], name, options, thresholds or {}),
                attributes,
                region,
                memory,
            )
            for name, options in chosen.items()
        },
    )


def check_finished(job: SegmentationJob) -> None:
    """Check that a finished segmentation is that of a job.

    Raises:
        FileExistsError: it is not.
    """
    made = job.output
    try:
        done = SegmentationJob.model_validate(group_attributes(made)["job"])
    except (ScaleNetError, KeyError, ValueError):
        raise FileExistsError(f"{made} exists, and is not a segmentation; choose another output") from None
    if differences := done.differences(job):
        raise FileExistsError(
            f"{made} is a segmentation of another kind, there and here: {'; '.join(differences)}. Remove it, or choose "
            "another output"
        )


@dataclass(frozen=True)
class _Predicted:
    """A class in a prediction.

    Attributes:
        path: the volume of its output.
        channel: the index of its channel.
        targets: what the output learned.
    """

    path: Path
    channel: int
    targets: TargetOptions


def _attributes(prediction: Path) -> dict[str, Any]:
    node = find_node(prediction)
    if node is None:
        partial = WorkFolder(prediction).path
        unfinished = f"; it is unfinished, in {partial}" if partial.exists() else "; predict first"
        raise FileNotFoundError(f"there is no prediction {prediction}{unfinished}")
    if not _is_prediction(prediction):
        below = [path.name for path in sorted(prediction.iterdir()) if path.is_dir() and _is_prediction(path)]
        told = f"; there are predictions below it: {', '.join(below)}; name one of them" if below else ""
        raise VolumeFormatError(
            f"{prediction} is not what scalenet-gp predict makes: it does not tell its outputs{told}"
        )
    return node.attributes


def _is_prediction(path: Path) -> bool:
    node = find_node(path)
    return node is not None and {"channels", "job"} <= node.attributes.keys()


def _predicted(config: Config, prediction: Path, attributes: dict[str, Any]) -> dict[str, _Predicted]:
    """Return the classes of a prediction, each from the finest output that has it.

    Raises:
        ConfigError: outputs have other channels than the config says.
    """
    outputs: dict[str, list[str]] = attributes["channels"]
    # outputs of the network that were not predicted have targets too
    names = config.build_network().output_keys
    if unknown := [output for output in outputs if output not in names]:
        raise ConfigError(
            f"{prediction} has the output {unknown[0]!r}, and the network of the config has {', '.join(names)}: take "
            "the run file that it was predicted with"
        )
    targets = match_outputs(config.training.targets, names)
    found: dict[str, tuple[Any, _Predicted]] = {}
    for output, channels in outputs.items():
        expected = targets[output].channels(config.data)
        if tuple(channels) != expected:
            raise ConfigError(
                f"{prediction / output} holds {', '.join(channels)}; the config has {', '.join(expected)}"
            )
        if not (prediction / output).exists():  # only another product, such as its entropy, was stored
            continue
        if isinstance(targets[output], InstanceTargetsOptions):  # channels that are not classes
            continue
        size = MultiscaleImage.open(prediction / output).levels[0].voxel_size
        for name in targets[output].scored(channels):
            one = _Predicted(prediction / output, channels.index(name), targets[output])
            rank = (math.prod(size), targets[output].kind != "classes")
            if name not in found or rank < found[name][0]:
                found[name] = rank, one
    return {name: found[name][1] for name in config.data.class_names if name in found}


def _predicted_in_words(found: Iterable[str], config: Config, attributes: dict[str, Any]) -> str:
    """Return the classes of a prediction in words, or what its outputs hold instead."""
    if classes := ", ".join(found):
        return f"are {classes}"
    targets = match_outputs(config.training.targets, config.build_network().output_keys)
    outputs = ", ".join(f"{targets[output].kind} in {output}" for output in attributes["channels"])
    return f"are no classes, but {outputs}"


def _resolved(
    config: Config,
    one: _Predicted,
    name: str,
    options: SegmentationMethod,
    thresholds: Mapping[str, Mapping[str, float]],
) -> SegmentationMethod:
    """Return the options with their threshold.

    Raises:
        ConfigError: there is one for classes that have none.
    """
    if options.threshold is None:
        chosen = thresholds.get(one.path.name, {}).get(name, config.evaluation.threshold)
        return options.model_copy(update={"threshold": chosen})
    if one.targets.kind == "classes" and one.targets.exclusive:
        raise ConfigError(
            f"segmentation.classes: {name} has the threshold {options.threshold:g}, and the classes of "
            f"{one.path.name} exclude each other, so that the most probable one counts: leave the threshold out"
        )
    return options


def _part(
    one: _Predicted,
    name: str,
    options: SegmentationMethod,
    attributes: dict[str, Any],
    region: Region | Literal["all"] | None,
    memory: int,
) -> SegmentedClass:
    image = MultiscaleImage.open(one.path)
    level = image.levels[0]
    begin, end = _bounds(image, attributes, region)
    shape = tuple(e - b for b, e in zip(begin, end, strict=True))
    chunks = tuple(min(c, n) for c, n in zip(MultiscaleArrayWriter.open(one.path).layout.chunks, shape, strict=True))
    exclusive = one.targets.kind == "classes" and one.targets.exclusive
    # of exclusive classes all channels are read, as they are stored and as floats
    voxel = _BYTES + (4 * image.channels if exclusive else 0)
    margin = np.array(BallOpening(options.opening, level.voxel_size).margin)
    margin += BallClosing(options.closing, level.voxel_size).margin
    if options.kind == "watershed":
        voxel += _BYTES  # heights, and the pairs of basins that touch
        margin += np.array(Heights(options.reach_in(level.voxel_size), level.voxel_size).margin) + 1
    block = _block(shape, chunks, [int(length) for length in margin], voxel, memory, name)
    return SegmentedClass(
        volume=one.path.name,
        channel=one.channel,
        targets=one.targets,
        source=VolumeFingerprint.of(image),
        begin=begin,
        shape=shape,
        chunks=chunks,
        block=block,
        options=options,
    )


def _block(
    shape: Sequence[int], chunks: Sequence[int], margin: Sequence[int], voxel: int, memory: int, name: str
) -> tuple[int, ...]:
    """Return the shape of the largest blocks that fit into memory with a margin around them.

    Raises:
        ConfigError: not even a chunk does.
    """
    budget = memory
    while True:
        block = block_shape(shape, chunks, chunks, voxel, budget)
        grown = [min(n, b + 2 * m) for b, m, n in zip(block, margin, shape, strict=True)]
        needed = _COPIES * voxel * math.prod(grown)
        if needed <= memory or not any(margin):
            return block
        if block == tuple(chunks):
            raise ConfigError(
                f"blocks of {name} have a margin of {tuple(margin)} voxels, by segmentation.classes.{name}, and take "
                f"{needed / 2**30:.3g} GiB of memory, of which {memory / 2**30:.3g} GiB are there: give more, or a "
                "smaller closing, opening or reach"
            )
        budget = max(budget // 2, _COPIES * voxel * math.prod(chunks))


def _bounds(
    image: MultiscaleImage, attributes: dict[str, Any], region: Region | Literal["all"] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return first and last voxels of a region in an output's volume: the whole voxels in it.

    Raises:
        ConfigError: it reaches beyond the prediction, or has no whole voxel.
    """
    level = image.levels[0]
    if region is None or region == "all":
        return (0,) * image.dims, level.shape
    raw = attributes["job"].get("raw")
    if raw is None:
        raise ConfigError(f"{image.path} does not tell where its raw volume begins: leave --region out")
    corner = VolumeFingerprint.model_validate(raw).begin
    if len(region.begin) != image.dims:
        raise ConfigError(f"the region {region} has {len(region.begin)} axes, {image.path} has {image.dims}")
    begin, end = [], []
    for axis, (size, place, voxels) in enumerate(zip(level.voxel_size, level.begin, level.shape, strict=True)):
        offset = corner[axis] - place
        low, high = region.begin[axis], region.end[axis]
        begin.append(0 if low is None else math.ceil((low + offset) / size))
        end.append(voxels if high is None else math.floor((high + offset) / size))
    if min(begin) < 0 or any(e > n for e, n in zip(end, level.shape, strict=True)):
        places = list(zip(level.begin, corner, level.shape, level.voxel_size, strict=True))
        first = tuple(place - c for place, c, _, _ in places)
        past = tuple(place - c + n * size for place, c, n, size in places)
        covered = Region(begin=first, end=past)
        raise ConfigError(f"the region {region} reaches beyond {image.path}, which covers {covered}; choose one within")
    if any(e <= b for b, e in zip(begin, end, strict=True)):
        raise ConfigError(f"the region {region} holds no whole voxel of {image.path}; choose a larger one")
    return tuple(begin), tuple(end)
