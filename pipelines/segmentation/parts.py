"""The parts of a segmentation: a class, or the objects of affinities, with its region and its blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scalenet_gp.errors import ArgumentError, ConfigError, VolumeFormatError
from scalenet_gp.options import suggest
from scalenet_gp.pipelines.blockwise import WorkFolder
from scalenet_gp.pipelines.config import (
    AffinityTargetsOptions,
    Config,
    InstanceTargetsOptions,
    Region,
    TargetOptions,
    match_outputs,
)
from scalenet_gp.pipelines.segmentation.block_memory import (
    BASIN_BYTES,
    CLASS_BYTES,
    MUTEX_BYTES,
    WATERSHED_BYTES,
    Allowance,
    BlockMemory,
)
from scalenet_gp.pipelines.segmentation.graph_database import check_database
from scalenet_gp.pipelines.segmentation.job import KindVolume, SegmentedAffinities, SegmentedClass
from scalenet_gp.segmentation import (
    AffinityMethod,
    BallClosing,
    BallOpening,
    Heights,
    KindOptions,
    SegmentationMethod,
    adjacent_offsets,
)
from scalenet_gp.volumes import MultiscaleArrayWriter, MultiscaleImage, VolumeFingerprint, find_node

__all__ = [
    "Place",
    "affinities_part",
    "class_part",
    "predicted_classes",
    "predicted_in_words",
    "prediction_attributes",
]


@dataclass(frozen=True, slots=True)
class Place:
    """The place in a prediction that is segmented.

    Attributes:
        attributes: of the prediction.
        region: nm from the raw volume's corner; all that is predicted unless given.
        thresholds: those of classes, by output, that count where the config gives none.
        merge_thresholds: those of objects, by name, that count where the config gives none.
        allowance: memory for blocks.
    """

    attributes: dict[str, Any]
    region: Region | Literal["all"] | None
    thresholds: Mapping[str, Mapping[str, float]]
    merge_thresholds: Mapping[str, float]
    allowance: Allowance


@dataclass(frozen=True)
class PredictedClass:
    """A class in a prediction.

    Attributes:
        path: the volume of its output.
        channel: the index of its channel.
        targets: what the output learned.
    """

    path: Path
    channel: int
    targets: TargetOptions


def prediction_attributes(prediction: Path) -> dict[str, Any]:
    """Return the attributes of a prediction.

    Raises:
        FileNotFoundError: there is none.
        VolumeFormatError: it is something else.
    """
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


def predicted_classes(config: Config, prediction: Path, attributes: dict[str, Any]) -> dict[str, PredictedClass]:
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
    found: dict[str, tuple[Any, PredictedClass]] = {}
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
            one = PredictedClass(prediction / output, channels.index(name), targets[output])
            rank = (math.prod(size), targets[output].kind != "classes")
            if name not in found or rank < found[name][0]:
                found[name] = rank, one
    return {name: found[name][1] for name in config.data.class_names if name in found}


def predicted_in_words(found: Iterable[str], config: Config, attributes: dict[str, Any]) -> str:
    """Return the classes of a prediction in words, or what its outputs hold instead."""
    if classes := ", ".join(found):
        return f"are {classes}"
    targets = match_outputs(config.training.targets, config.build_network().output_keys)
    outputs = ", ".join(f"{targets[output].kind} in {output}" for output in attributes["channels"])
    return f"are no classes, but {outputs}"


def _resolved(
    config: Config,
    one: PredictedClass,
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


def class_part(
    config: Config, one: PredictedClass, name: str, options: SegmentationMethod, place: Place
) -> SegmentedClass:
    """Return the segmentation of a class.

    Raises:
        ConfigError: there is a threshold for classes that have none; the region reaches beyond the prediction; or the
            memory is too little.
    """
    options = _resolved(config, one, name, options, place.thresholds)
    image = MultiscaleImage.open(one.path)
    size = image.levels[0].voxel_size
    exclusive = one.targets.kind == "classes" and one.targets.exclusive
    # of exclusive classes all channels are read, as they are stored and as floats
    voxel = CLASS_BYTES + (24 * image.channels if exclusive else 0)
    margin = np.array(BallOpening(options.opening, size).margin)
    margin += BallClosing(options.closing, size).margin
    if options.kind == "watershed":
        voxel += WATERSHED_BYTES - CLASS_BYTES
        margin += np.array(Heights(options.reach_in(size), size).margin) + 1
    return SegmentedClass(
        channel=one.channel,
        targets=one.targets,
        options=options,
        **_divided(image, one.path, place, f"classes.{name}", BlockMemory(voxel, tuple(margin.tolist()))),
    )


def affinities_part(
    config: Config, prediction: Path, name: str, options: AffinityMethod, place: Place
) -> SegmentedAffinities:
    """Return the segmentation of affinities.

    Raises:
        ConfigError: there are no such affinities, or several; they have no offsets to neighbours, or another number of
            them than the options say; the region reaches beyond the prediction; the memory is too little; or the
            database for the graph cannot be reached.
    """
    path, targets = _affinities(config, prediction, name, options.affinities)
    if options.merge_threshold is None:
        options = options.model_copy(update={"merge_threshold": place.merge_thresholds.get(name)})
    image = MultiscaleImage.open(path)
    size = image.levels[0].voxel_size
    offsets = targets.in_voxels(size)
    try:
        adjacent_offsets(offsets)
        if options.kind == "agglomerate":
            margin = tuple(length + 1 for length in Heights(options.reach_in(size), size).margin)
            memory = BlockMemory(BASIN_BYTES, margin)
        else:
            options.biases(offsets)
            memory = BlockMemory(MUTEX_BYTES * len(offsets), options.context_in(offsets, size))
        if options.graph is not None:
            check_database(options.graph)
    except (ArgumentError, ConfigError) as error:
        raise ConfigError(f"segmentation.objects.{name}: {error}") from None
    return SegmentedAffinities(
        offsets=offsets,
        options=options,
        kinds=None if options.kinds is None else _kind_volume(config, prediction, name, options.kinds),
        **_divided(image, path, place, f"objects.{name}", memory),
    )


def _kind_volume(config: Config, prediction: Path, name: str, kinds: KindOptions) -> KindVolume:
    """Return where the probabilities of kinds are.

    Raises:
        ConfigError: no output of the prediction learned them all.
    """
    targets = match_outputs(config.training.targets, config.build_network().output_keys)
    channels = {
        key: of.channels(config.data)
        for key, of in targets.items()
        if of.kind == "classes" and (prediction / key).exists() and kinds.output in (None, key)
    }
    having = [key for key, names in channels.items() if set(kinds.classes) <= set(names)]
    if not having:
        there = "; ".join(f"{key} has {', '.join(names)}" for key, names in channels.items()) or "there are no classes"
        told = "" if kinds.output is None else f" in {kinds.output}"
        raise ConfigError(
            f"segmentation.objects.{name}.kinds: {prediction} does not have {', '.join(kinds.classes)}{told}; {there}"
        )
    images = {key: MultiscaleImage.open(prediction / key) for key in having}
    key = max(images, key=lambda one: math.prod(images[one].levels[0].voxel_size))
    indices = tuple(channels[key].index(one) for one in kinds.classes)
    return KindVolume(volume=key, channels=indices, source=VolumeFingerprint.of(images[key]))


def _affinities(config: Config, prediction: Path, name: str, output: str | None) -> tuple[Path, AffinityTargetsOptions]:
    """Return the volume of affinities that objects are made of, and what its output learned."""
    targets = match_outputs(config.training.targets, config.build_network().output_keys)
    taught = {key: options for key, options in targets.items() if isinstance(options, AffinityTargetsOptions)}
    learned = {key: options for key, options in taught.items() if (prediction / key).exists()}
    if taught and (not learned if output is None else output in taught and output not in learned):
        missing = ", ".join(taught) if output is None else output
        raise ConfigError(
            f"segmentation.objects.{name}: {prediction} was predicted without affinities, which the network has in "
            f"{missing}: name that in prediction.outputs, and predict anew"
        )
    if output is not None:
        if output not in learned:
            told = suggest(output, list(learned)) if learned else "none is there"
            raise ConfigError(
                f"segmentation.objects.{name}.affinities: {prediction} has no affinities {output!r}; {told}"
            )
        return prediction / output, learned[output]
    if len(learned) != 1:
        raise ConfigError(
            f"segmentation.objects.{name}: {prediction} has {len(learned) or 'no'} outputs that learned affinities"
            + (f", {', '.join(learned)}: say with affinities which to take" if learned else "")
        )
    ((key, options),) = learned.items()
    return prediction / key, options


def _divided(image: MultiscaleImage, path: Path, place: Place, field: str, memory: BlockMemory) -> dict[str, Any]:
    """Return the fields of a segmented volume.

    Args:
        image: the output's volume.
        path: its path.
        place: the region, and the memory that is allowed.
        field: the options in the section ``segmentation``.
        memory: that blocks take.
    """
    begin, end = _bounds(image, place.attributes, place.region)
    shape = tuple(e - b for b, e in zip(begin, end, strict=True))
    chunks = tuple(min(c, n) for c, n in zip(MultiscaleArrayWriter.open(path).layout.chunks, shape, strict=True))
    return {
        "volume": path.name,
        "source": VolumeFingerprint.of(image),
        "begin": begin,
        "shape": shape,
        "chunks": chunks,
        "block": memory.largest_block(shape, chunks, place.allowance, field),
    }


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
