"""The command that measures objects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scalenet_gp.pipelines.cli.options import print_results, print_table

__all__ = ["measure"]


def measure(
    segmentation: Annotated[
        str, typer.Argument(metavar="SEGMENTATION", help="What segment made, or any volume of ids, or its URL.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder to make; SEGMENTATION without .zarr and with _measures unless given."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Classes to measure, as mito,nucleus; all of the group by default.")
    ] = None,
    raw: Annotated[
        str | None, typer.Option("--raw", help="Volume of raw data, or its URL, whose mean in each object is taken.")
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option("--confidence", help="Predicted zarr group: the mean probability of each object is taken."),
    ] = None,
    parents: Annotated[
        str | None,
        typer.Option(
            "--parents",
            help="Volume of ids, or a class of SEGMENTATION: the object of it that each one lies in, as the cell of a "
            "mitochondrion.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Worker processes; with 0 this one does block after block.")
    ] = 0,
    launcher: Annotated[
        str, typer.Option("--launcher", help="Command that starts a worker elsewhere: 'srun -n1 -c2'.")
    ] = "",
    memory: Annotated[
        float, typer.Option("--memory", min=0, help="GiB for the blocks that a process has at a time.")
    ] = 2,
) -> None:
    """Measure every object of a segmentation: size, surface, axes, means, parent, contacts; as tables.

    The same command resumes an unfinished measurement. SIGTERM and SIGUSR1 end it with the exit code 75.
    """
    from scalenet_gp.pipelines.blockwise import Workers
    from scalenet_gp.pipelines.measuring import measure as measure_objects
    from scalenet_gp.pipelines.measuring import measures_table

    made = output or Path(f"{segmentation.rstrip('/').removesuffix('.zarr')}_measures")
    measure_objects(
        segmentation,
        made,
        classes=classes.split(",") if classes else (),
        raw=raw,
        confidence=confidence,
        parents=parents,
        workers=Workers.create(count=workers, launcher=launcher, memory=int(memory * 2**30)),
    )
    print_table(measures_table(made))
    print_results({"objects": made / "objects.csv", "contacts": made / "contacts.csv"})
