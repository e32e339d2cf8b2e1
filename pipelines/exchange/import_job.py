"""The job that imports a volume of another program."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

from scalenet_gp.errors import ConfigError
from scalenet_gp.exchange import VolumeFile, file_state, open_volume_file
from scalenet_gp.geometry import Length, exact_size, format_size
from scalenet_gp.pipelines.blockwise import Workers, block_shape, run
from scalenet_gp.pipelines.exchange.import_task import ImportTask
from scalenet_gp.pipelines.exchange.jobs import ImportJob
from scalenet_gp.volumes import ImageLayout, StrPath, default_levels, local_path, nanometres

__all__ = ["import_volume"]


def import_volume(
    source: StrPath,
    output: Path,
    *,
    dataset: str | None = None,
    axes: str | None = None,
    voxel_size: Sequence[Length] | None = None,
    unit: str | None = None,
    corner: Sequence[Length] | None = None,
    labels: bool = False,
    ignore_metadata: bool = False,
    levels: int | None = None,
    ome_zarr: Literal["0.4", "0.5"] = "0.4",
    workers: Workers | None = None,
) -> Path:
    """Write a volume of another program as OME-Zarr, block by block, with its coarser levels.

    Until it is finished, the volume is in the folder ``<output>.partial``. The same call resumes where an earlier one
    ended.

    Args:
        source: TIFF stack, folder of TIFF or PNG slices, HDF5, MRC or NIfTI file, or zarr, N5 or precomputed volume.
        output: zarr group to make, whole or not at all.
        dataset: the dataset of an HDF5 file, or the index of a series of TIFF.
        axes: the names of the stored axes, a letter for each of z, y, x and c, where the file does not name them right.
        voxel_size: one length, or one for each axis of space (z, y, x), where the file states none.
        unit: the unit of ``voxel_size`` and ``corner``, and of lengths in a file that names none; nm unless given.
        corner: the corner of the first voxel (z, y, x), where the file states none; zero unless given.
        labels: the values are names: coarser levels take the most frequent one instead of the mean.
        ignore_metadata: do not read voxel size, position and the like from the file, as it is wrong.
        levels: the number of levels; as many as viewers need unless given.
        ome_zarr: the version of OME-Zarr to write: 0.4 is zarr of format 2, and 0.5 of format 3.
        workers: processes that import, and memory for each; this process alone unless given.

    Returns:
        ``output``.

    Raises:
        FileExistsError: there is something at the output.
        FileNotFoundError: there is no such source.
        ConfigError: no voxel size, or one that contradicts the file; or the unfinished work there is another one.
        VolumeFormatError, DataError: the source is damaged, not clear, or of a format that is not read.
        ArgumentError: arguments that do not fit, or a library that is not installed.
        BlockingIOError: another process makes this output.
        UnfinishedBlocksError: some blocks could not be imported; the others are done.
    """
    processes = workers or Workers(memory=2 * 2**30)
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    local = local_path(source)
    path = str(source) if local is None else str(local.absolute())
    scale = Fraction(1) if unit is None else nanometres("--unit", unit, None)
    given = None if voxel_size is None else tuple(scale * length for length in exact_size(voxel_size))
    place = None if corner is None else tuple(scale * length for length in exact_size(corner))
    spread = given * 3 if given is not None and len(given) == 1 else given
    with open_volume_file(
        path,
        dataset=dataset,
        axes=axes,
        unit=unit if given is None else None,
        voxel_size=spread,
        ignore_metadata=ignore_metadata,
    ) as file:
        file.check()
        file.read((0,) * len(file.shape), (1,) * len(file.shape))  # a codec that is missing is told of now
        size, begin = _geometry(file, given, place, unit)
        count = default_levels(size, file.shape) if levels is None else levels
        chunks = ImageLayout(size, begin, file.shape, (), file.dtype.name, "quantities", count).chunks
        job = ImportJob(
            source=path,
            output=output.absolute(),
            fingerprint=file_state(path),
            block=block_shape(
                file.shape, file.piece, chunks, file.dtype.itemsize * (file.channels or 1), processes.memory
            ),
            dataset=dataset,
            axes=axes,
            ignore_metadata=ignore_metadata,
            unit=unit if given is None else None,
            voxel_size=tuple(map(str, size)),
            corner=tuple(map(str, begin)),
            shape=file.shape,
            channels=file.channels,
            stored=file.dtype.name,
            labels=labels,
            levels=count,
            ome_zarr=ome_zarr,
        )
    return run(job.output, lambda: ImportTask(job), processes)


def _geometry(
    file: VolumeFile, given: tuple[Fraction, ...] | None, place: tuple[Fraction, ...] | None, unit: str | None
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """Return voxel size and corner, nm, of the options and the file, which must not contradict each other.

    Raises:
        ConfigError: they do, or neither says the voxel size.
    """
    dims = len(file.shape)
    if given is not None and len(given) == 1:
        given = given * dims
    for name, lengths in (("--voxel-size", given), ("--corner", place)):
        if lengths is not None and len(lengths) != dims:
            raise ConfigError(
                f"{name} has {len(lengths)} numbers, and {file.path} has the axes {', '.join(file.axes)}: give one for "
                "each"
            )
    if given is not None and min(given) <= 0:
        raise ConfigError(f"--voxel-size {format_size(given)} nm has to be positive")
    stated = file.stated
    if stated is not None:
        # where the option has a unit of its own, that is none of the file's
        stated = stated.in_nm(file.path, unit if given is None or stated.unit is None else None)
        if given is not None and given != stated.voxel_size:
            raise ConfigError(
                f"{file.path}: {stated.source} says voxels of {format_size(stated.voxel_size)} nm (z, y, x), "
                f"--voxel-size {format_size(given)} nm; leave --voxel-size out, or, if the file is wrong, give "
                "--ignore-metadata"
            )
        if place is not None and stated.corner is not None and place != stated.corner:
            raise ConfigError(
                f"{file.path}: {stated.source} says that the first voxel begins at {format_size(stated.corner)} nm "
                f"(z, y, x), --corner {format_size(place)} nm; leave --corner out, or, if the file is wrong, give "
                "--ignore-metadata"
            )
        given = stated.voxel_size
        place = stated.corner if place is None else place
    if given is None:
        raise ConfigError(
            f"{file.path}: it states no voxel size; give it with --voxel-size, {', '.join(file.axes)} in nm, as "
            f"--voxel-size {'40,4,4' if dims == 3 else '4,4'}, or in another unit with --unit too"
        )
    return given, place or (Fraction(0),) * dims
