"""The job that exports a volume for another program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scalenet_gp.errors import ConfigError
from scalenet_gp.exchange import output_of
from scalenet_gp.geometry import Length, exact_size
from scalenet_gp.pipelines.blockwise import Workers, block_shape, run
from scalenet_gp.pipelines.exchange.export_task import ExportTask, open_image
from scalenet_gp.pipelines.exchange.jobs import ExportJob
from scalenet_gp.volumes import StoredValues, StrPath, find_node, local_path

__all__ = ["export_volume"]


def export_volume(
    source: StrPath,
    output: Path,
    *,
    channel: str | None = None,
    labels: bool | None = None,
    corner: Sequence[Length] | None = None,
    workers: Workers | None = None,
) -> Path:
    """Write a multiscale volume for another program, block by block, with its voxel size.

    Until it is finished, the volume is in the folder ``<output>.partial``. The same call resumes where an earlier one
    ended; HDF5 is begun anew.

    Args:
        source: the multiscale volume, such as a prediction's ``out.zarr/2_output``.
        output: the file or folder to make, whole or not at all; its name says the format: .tif, .h5, or precomputed.
        channel: the name or index of the channel to export; all of them unless given.
        labels: the values are names, not quantities; as the volume says unless given.
        corner: the corner of the first voxel, nm, instead of the volume's own.
        workers: processes that export, and memory for each; this process alone unless given.

    Returns:
        ``output``.

    Raises:
        FileExistsError: there is something at the output.
        FileNotFoundError: there is no such volume.
        ArgumentError, LatticeError: the format cannot hold the volume, or there is no such channel.
        ConfigError: several processes are to write a file of HDF5, or the unfinished work there is another one.
        BlockingIOError: another process makes this output.
        UnfinishedBlocksError: some blocks could not be exported; the others are done.
    """
    processes = workers or Workers(memory=2 * 2**30)
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    kind = output_of(output)
    if processes.count and not kind.many:
        raise ConfigError(f"{output}: one process at a time can write HDF5; leave --workers out")
    local = local_path(source)
    path = str(source) if local is None else str(local.absolute())
    image = open_image(path, channel)
    node = find_node(path)
    stated = StoredValues.of(path, {} if node is None else node.attributes).kind
    begin = image.levels[0].begin if corner is None else exact_size(corner)
    if len(begin) != image.dims:
        raise ConfigError(f"--corner has {len(begin)} numbers, and {path} has {image.dims} axes: give one for each")
    shape = image.levels[0].shape
    chunks = tuple(min(64, length) for length in shape)
    job = ExportJob(
        source=path,
        output=output.absolute(),
        fingerprint="",
        block=block_shape(shape, chunks, chunks, image.dtype.itemsize * image.channels, processes.memory),
        channel=channel,
        labels=stated == "labels" if labels is None else labels,
        corner=tuple(map(str, begin)),
    )
    return run(job.output, lambda: ExportTask.open(job), processes)
