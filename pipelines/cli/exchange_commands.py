"""Commands that bring volumes of other programs in, and results out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.cli.options import print_results

if TYPE_CHECKING:
    from scalenet_gp.pipelines.blockwise import Workers

__all__ = ["export_", "import_"]

WorkerCount = Annotated[
    int, typer.Option("--workers", min=0, help="Worker processes; with 0 this one does block after block.")
]
Memory = Annotated[float, typer.Option("--memory", min=0, help="GiB for the blocks that a process has at a time.")]


class OmeZarr(StrEnum):
    """Versions of OME-Zarr that are written."""

    V04 = "0.4"
    V05 = "0.5"


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="TIFF stack, folder of TIFF or PNG slices, HDF5 (as a.h5/volumes/raw), MRC or NIfTI file, or zarr, N5 "
            "or precomputed volume.",
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Zarr group to make, whole or not at all.")],
    voxel_size: Annotated[
        str | None,
        typer.Option(
            "--voxel-size", help="Voxel size where the file states none: 8, or one per axis (z, y, x) as 40,4,4; nm."
        ),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            "--unit",
            help="Unit of --voxel-size and --corner, and of lengths in a file that names none: nanometer, micrometer.",
        ),
    ] = None,
    corner: Annotated[
        str | None,
        typer.Option("--corner", help="Corner of the first voxel (z, y, x) where the file states none; else 0,0,0."),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Values are names: coarser levels take the most frequent, not the mean.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Dataset of an HDF5 file, or index of a series of TIFF.")
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            "--axes",
            help="Names of the stored axes, of z, y, x and c (channels), as zyxc; as the file says unless given.",
        ),
    ] = None,
    ignore_metadata: Annotated[
        bool,
        typer.Option(
            "--ignore-metadata", help="Do not read voxel size, position and the like from a file that is wrong."
        ),
    ] = False,
    levels: Annotated[
        int | None, typer.Option("--levels", min=1, help="Number of levels; as many as a viewer needs unless given.")
    ] = None,
    ome_zarr: Annotated[
        OmeZarr, typer.Option("--ome-zarr", help="Version to write: 0.4 is zarr of format 2, 0.5 of format 3.")
    ] = OmeZarr.V04,
    workers: WorkerCount = 0,
    memory: Memory = 2,
) -> None:
    """Write a volume of another program as OME-Zarr, block by block, with its voxel size and coarser levels.

    The same command resumes an unfinished import. SIGTERM and SIGUSR1 end it with the exit code 75.
    """
    from scalenet_gp.pipelines.exchange import import_volume

    made = import_volume(
        source,
        output,
        dataset=dataset,
        axes=axes,
        voxel_size=_lengths("--voxel-size", voxel_size),
        unit=unit,
        corner=_lengths("--corner", corner),
        labels=labels,
        ignore_metadata=ignore_metadata,
        levels=levels,
        ome_zarr=ome_zarr.value,
        workers=_workers(workers, memory),
    )
    print_results({"imported OME-Zarr": made})


def export_(
    source: Annotated[
        str, typer.Argument(metavar="VOLUME", help="Multiscale volume, as out.zarr/2_output of a prediction.")
    ],
    output: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="File or folder to make; its name ends in .tif, .h5, or precomputed."),
    ],
    channel: Annotated[
        str | None, typer.Option("--channel", help="Name or index of the channel to export; all of them unless given.")
    ] = None,
    labels: Annotated[
        bool | None,
        typer.Option("--labels/--no-labels", help="Values are names, or quantities; as the volume says unless given."),
    ] = None,
    corner: Annotated[
        str | None,
        typer.Option("--corner", help="Corner of the first voxel, nm (z, y, x), instead of the volume's own."),
    ] = None,
    workers: WorkerCount = 0,
    memory: Memory = 2,
) -> None:
    """Write a volume for another program, block by block, with its voxel size: OME-TIFF, HDF5 or precomputed.

    The same command resumes an unfinished export; HDF5 is begun anew.
    """
    from scalenet_gp.pipelines.exchange import export_volume

    made = export_volume(
        source,
        output,
        channel=channel,
        labels=labels,
        corner=_lengths("--corner", corner),
        workers=_workers(workers, memory),
    )
    print_results({"exported volume": made})


def _workers(count: int, memory: float) -> Workers:
    from scalenet_gp.pipelines.blockwise import Workers

    return Workers(count=count, memory=int(memory * 2**30))


def _lengths(option: str, text: str | None) -> list[str] | None:
    """Return the numbers of an option.

    Raises:
        ConfigError: they are not numbers.
    """
    if text is None:
        return None
    from scalenet_gp.geometry import exact_size

    parts = [part.strip() for part in text.split(",")]
    try:
        exact_size(parts)
    except ValueError as error:
        raise ConfigError(
            f"{option} is a number, or one per axis (z, y, x) as 40,4,4, not {text!r}: {error}"
        ) from error
    return parts
