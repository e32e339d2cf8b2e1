"""The job that measures the objects of a segmentation, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scalenet_gp.errors import ConfigError, DataError, VolumeFormatError
from scalenet_gp.options import suggest
from scalenet_gp.pipelines.blockwise import Workers, block_shape, run
from scalenet_gp.pipelines.measuring.job import MeasuredClass, MeasuringJob, ReadVolume
from scalenet_gp.pipelines.measuring.task import MeasuringTask
from scalenet_gp.pipelines.measuring.volumes import MeasuredVolumes
from scalenet_gp.volumes import (
    ClassPrediction,
    MultiscaleImage,
    StoredValues,
    StrPath,
    VolumeFingerprint,
    find_node,
    group_attributes,
    is_ome_zarr,
    join,
    local_path,
    multiscale_groups,
    whole_path,
)

__all__ = ["measure"]

_BYTES = 32
"""Bytes of a voxel of a block: ids, their indices, and those with a margin."""

_CHUNK = 64

_ALONE = Workers(memory=2 * 2**30)


def measure(
    segmentation: StrPath,
    output: Path,
    *,
    classes: Sequence[str] = (),
    raw: StrPath | None = None,
    confidence: StrPath | None = None,
    parents: str | None = None,
    workers: Workers | None = None,
) -> Path:
    """Measure every object of volumes of ids: tables of objects, and of their contacts.

    All sums are whole numbers, so that the tables are the same however the volume is divided into blocks. Until they
    are finished, they are in the folder ``<output>.partial``. The same call resumes where an earlier one ended.

    Args:
        segmentation: a volume of ids, 0 for the background, of any format that can be read; or a group of them, one for
            each class, as :func:`scalenet_gp.pipelines.segmentation.segment` makes.
        output: folder to make, whole or not at all: ``objects.csv``, ``contacts.csv``, both as Parquet too if there is
            pyarrow, and ``measures.json``, which says of which volumes they are.
        classes: the classes of the group to measure; all of them unless given.
        raw: volume of raw data, whose mean in each object is taken.
        confidence: predicted zarr group, or one output of it, whose channel of the same class is averaged; one of the
            classes is in it at least.
        parents: volume of ids, or the name of a class in the group: the parent of an object is the one among these that
            it has the most voxels in common with; of several the one with the smallest id.
        workers: processes that measure, and memory for each; this process alone unless given.

    Returns:
        ``output``.

    Raises:
        FileExistsError: there is something at ``output``.
        FileNotFoundError: there is no such volume.
        VolumeFormatError: there is no volume of ids.
        DataError: the ids are not whole numbers.
        ConfigError: no such class; the parents are the only class that is measured; a volume does not cover
            the ids, or has several channels; or the unfinished measurement is another one.
        BlockingIOError: another process makes this output.
        UnfinishedBlocksError: some blocks could not be measured; the others are done.
    """
    processes = workers or _ALONE
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    volumes = _volumes_of_ids(segmentation)
    for name in classes:
        if name not in volumes:
            raise ConfigError(f"{segmentation}: there is no class {name!r}; {suggest(name, list(volumes))}")
    chosen = {name: path for name, path in volumes.items() if not classes or name in classes}
    measured = {
        name: _measured(
            name, MultiscaleImage.open(path), raw, confidence, _parents_of(name, parents, volumes), processes
        )
        for name, path in chosen.items()
    }
    if parents is not None and all(part.parents is None for part in measured.values()):
        raise ConfigError(
            f"--parents {parents}: the objects of a class are not parents of their own; "
            f"choose another class with --classes, of {', '.join(volumes)}"
        )
    if len({len(part.ids.shape) for part in measured.values()}) > 1:
        raise ConfigError(
            f"{segmentation} has volumes of two and of three dimensions: choose among them with --classes"
        )
    if confidence is not None and not any("confidence" in part.values for part in measured.values()):
        there = ", ".join(ClassPrediction.names(Path(whole_path(confidence)))) or "no channels with names"
        raise FileNotFoundError(
            f"--confidence {confidence}: there is no prediction of {' or '.join(measured)}; there are {there}"
        )
    for part in measured.values():
        MeasuredVolumes(part)  # refuses volumes that do not fit
    job = MeasuringJob(output=output.absolute(), classes=measured)
    return run(job.output, lambda: MeasuringTask(job), processes)


def _volumes_of_ids(segmentation: StrPath) -> dict[str, str]:
    """Return the paths of the volumes of ids in a group, by class; a volume alone has the class of its name.

    Raises:
        FileNotFoundError: there is nothing.
        VolumeFormatError: there is a group without such a volume.
    """
    path = whole_path(segmentation)
    node, local = find_node(path), local_path(path)
    if node is not None and node.array is None and not is_ome_zarr(node) and local is not None:
        groups = {name: join(path, name) for name in multiscale_groups(local)}
        found = {
            name: group
            for name, group in groups.items()
            for attributes in [group_attributes(group)]
            if StoredValues.of(group, attributes).kind == "labels" and "fragments of" not in attributes
        }
        if found:
            return found
        if groups:
            raise VolumeFormatError(
                f"{path} has no volume of ids, only {', '.join(groups)}: segment the prediction first"
            )
    MultiscaleImage.open(path)  # tells where there is none
    return {Path(path).name.removesuffix(".zarr"): path}


def _parents_of(name: str, parents: str | None, volumes: dict[str, str]) -> str | None:
    """Return the path of the volume in which parents of a class are looked for; None for none."""
    if parents is None or parents == name:
        return None
    if parents not in volumes and "/" not in parents and not Path(parents).exists():
        raise ConfigError(f"--parents: there is no class {parents!r}, nor a volume; {suggest(parents, list(volumes))}")
    return volumes.get(parents, parents)


def _measured(
    name: str,
    ids: MultiscaleImage,
    raw: StrPath | None,
    confidence: StrPath | None,
    parents: str | None,
    workers: Workers,
) -> MeasuredClass:
    _check_ids(ids)
    values: dict[str, ReadVolume] = {}
    if raw is not None:
        values["raw"] = _alone(whole_path(raw))
    if confidence is not None and (predicted := _predicted(confidence, name, ids)) is not None:
        values["confidence"] = predicted
    of = None
    if parents is not None:
        of = _alone(whole_path(parents))
        _check_ids(MultiscaleImage.open(of.source.path))
    shape = ids.levels[0].shape
    chunk = tuple(min(_CHUNK, length) for length in shape)
    voxel = _BYTES + 8 * (len(values) + 2 * (of is not None))
    block = block_shape(shape, chunk, chunk, voxel, workers.memory)
    return MeasuredClass(ids=VolumeFingerprint.of(ids), block=block, values=values, parents=of)


def _check_ids(image: MultiscaleImage) -> None:
    if image.channels != 1:
        raise ConfigError(f"{image.path} has {image.channels} channels; a volume of ids has one")
    if image.dtype.kind not in "biu":
        raise DataError(f"{image.path} holds {image.dtype}; ids have to be whole numbers: segment the prediction first")


def _alone(path: str) -> ReadVolume:
    """Return a volume of one channel."""
    image = MultiscaleImage.open(path)
    if image.channels != 1:
        raise ConfigError(f"{path} has {image.channels} channels, of which one can be read: give a volume with one")
    scale = StoredValues.of(path, group_attributes(path)).scale
    return ReadVolume(source=VolumeFingerprint.of(image), scale=scale)


def _predicted(prediction: StrPath, name: str, ids: MultiscaleImage) -> ReadVolume | None:
    """Return the prediction of a class; None if there is none."""
    found = ClassPrediction.find(Path(whole_path(prediction)), name, ids.levels[0].voxel_size)
    if found is None:
        return None
    several = MultiscaleImage.open(found.image.path).channels > 1
    fingerprint = VolumeFingerprint.of(found.image)
    return ReadVolume(source=fingerprint, channel=name if several else None, scale=found.scale or 1.0)
