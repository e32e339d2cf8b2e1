"""The job that segments a prediction block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from scalenet_gp.errors import ConfigError, ScaleNetError
from scalenet_gp.options import suggest
from scalenet_gp.pipelines.blockwise import Workers, WorkFolder, run
from scalenet_gp.pipelines.config import FRAGMENTS, Config, Region
from scalenet_gp.pipelines.segmentation.block_memory import Allowance
from scalenet_gp.pipelines.segmentation.job import SegmentationJob
from scalenet_gp.pipelines.segmentation.parts import (
    Place,
    affinities_part,
    class_part,
    predicted_classes,
    predicted_in_words,
    prediction_attributes,
)
from scalenet_gp.pipelines.segmentation.table import objects_path
from scalenet_gp.pipelines.segmentation.task import SegmentationTask
from scalenet_gp.training import free_bytes
from scalenet_gp.volumes import group_attributes

__all__ = ["check_finished", "segment", "segmentation_job"]

_PROCESS = 450 * 2**20
"""Bytes that a worker takes before it has a block."""

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
    merge_thresholds: Mapping[str, float] | None = None,
    workers: Workers | None = None,
) -> Path:
    """Find objects in a prediction, each kind in an OME-Zarr volume of ids, with a table of them all.

    Kinds are the classes of the config's ``segmentation.classes``, and the objects that affinities make, of
    ``segmentation.objects``.

    Objects are those of the region in one piece, however it is divided into blocks: their ids count from 1 in the order
    of their first voxels, in the smallest type of integers. Until it is finished, the segmentation is in the folder
    ``<output>.partial``. The same call resumes where an earlier one ended.

    Args:
        config: the run, with the options of the segmentation.
        prediction: zarr group that :func:`scalenet_gp.pipelines.prediction.predict` wrote. Each class is taken from the
            finest of its outputs that has it.
        output: zarr group to make, whole or not at all; ``output/mito`` is the volume of the class ``"mito"``.
        region: the region to segment, nm from the raw volume's corner; all that is predicted unless given.
        classes: the classes and objects to segment, of those that the config chooses; all of these unless given.
        thresholds: the thresholds of classes, by output, that count where the config gives none, before
            ``evaluation.threshold``: those that :func:`scalenet_gp.pipelines.evaluation.choose_thresholds` chose.
        merge_thresholds: those of objects of affinities that count where the config gives none: those that
            :func:`scalenet_gp.pipelines.evaluation.choose_merge_threshold` chose.
        workers: processes that segment, and memory for each; this process alone unless given.

    Returns:
        ``output``. Its table is at :func:`objects_path`.

    Raises:
        FileExistsError: there is something at ``output``, or at the place of the table.
        FileNotFoundError: there is no such prediction.
        VolumeFormatError: it is not a prediction.
        ConfigError: the prediction has other classes than the config; there is no class to segment; the region reaches
            beyond the prediction; a threshold of exclusive classes; blocks take more memory than is free here; or the
            unfinished segmentation is another one.
        BlockingIOError: another process makes this output.
        UnfinishedBlocksError: some blocks could not be segmented; the others are done.
    """
    table = objects_path(output)
    for made in (output, table):
        if made.exists() and not (made == table and WorkFolder(output).path.exists()):
            raise FileExistsError(f"{made} exists; choose another output, or remove it")
    job = segmentation_job(
        config,
        prediction,
        output,
        region,
        classes=classes,
        thresholds=thresholds,
        merge_thresholds=merge_thresholds,
        workers=workers,
    )
    return run(job.output, lambda: SegmentationTask(job), workers or _ALONE)


def segmentation_job(
    config: Config,
    prediction: Path,
    output: Path,
    region: Region | Literal["all"] | None = None,
    *,
    classes: Sequence[str] = (),
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
    merge_thresholds: Mapping[str, float] | None = None,
    workers: Workers | None = None,
) -> SegmentationJob:
    """Return the job of :func:`segment`; nothing is made. Raises as that."""
    attributes = prediction_attributes(prediction)
    found = predicted_classes(config, prediction, attributes)
    methods, objects = config.segmentation.methods(list(found)), config.segmentation.objects
    known = [*methods, *objects]
    for name in classes:
        if name not in known:
            raise ConfigError(f"{prediction}: there is no class {name!r} to segment; {suggest(name, known)}")
    if double := [name for name in objects if name in methods]:
        raise ConfigError(f"segmentation.objects.{double[0]}: a class has this name, too; give the objects another one")
    chosen = [name for name in known if not classes or name in classes]
    if not chosen:
        raise ConfigError(
            f"{prediction} has no class to segment: segmentation.classes names "
            f"{', '.join(config.segmentation.classes) or 'none'}, and predicted "
            f"{predicted_in_words(found, config, attributes)}; segmentation.objects makes objects of affinities"
        )
    kept = [name for name in chosen if name in objects or methods[name].keep_fragments]
    if double := [f"{name}{FRAGMENTS}" for name in kept if f"{name}{FRAGMENTS}" in known]:
        raise ConfigError(
            f"segmentation: {double[0]} is a class, and the name of fragments that are kept; leave keep_fragments out"
        )
    place = Place(attributes, region, thresholds or {}, merge_thresholds or {}, _allowance(workers or _ALONE))
    return SegmentationJob(
        output=output.absolute(),
        prediction=prediction.absolute(),
        networks=tuple(network["sha256"] for network in attributes["job"]["networks"]),
        classes={
            name: class_part(config, found[name], name, options, place)
            for name, options in methods.items()
            if name in chosen
        },
        objects={
            name: affinities_part(config, prediction, name, options, place)
            for name, options in objects.items()
            if name in chosen
        },
    )


def _allowance(workers: Workers) -> Allowance:
    """Return the memory that the blocks of workers may take."""
    free = None if workers.launcher else free_bytes(torch.device("cpu")) - workers.count * _PROCESS
    return Allowance(workers.memory, max(1, workers.count), free)


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
