"""The command that finds objects in predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.cli.options import (
    ConfigFile,
    Overrides,
    print_results,
    print_table,
    read_config,
    read_merge_thresholds,
    read_region,
    read_thresholds,
)

__all__ = ["segment"]


def segment(
    config: ConfigFile,
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of the run; needed unless --prediction and --output are given.")
    ] = None,
    prediction: Annotated[
        Path | None, typer.Option("--prediction", help="Predicted zarr group; prediction.zarr in the run unless given.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Zarr group to make, with a table of objects beside it; segmentation.zarr in the run unless given.",
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            help="Region to segment: nm from the raw volume's corner as 0,0,0:800,4096,4096; all that is predicted "
            "unless given.",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="Classes to segment, as mito,nucleus; all of segmentation.classes by default."),
    ] = None,
    crops: Annotated[
        Path | None,
        typer.Option(
            "--crops",
            help="Manifest of the CellMap challenge's test crops, or test for its own: PREDICTION and OUTPUT are "
            "folders of crops, and the classes are those that it scores by objects.",
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
    overrides: Overrides = None,
) -> None:
    """Find the objects of each class in a prediction: volumes of ids, and a table of the objects as CSV.

    The same command resumes an unfinished segmentation. SIGTERM and SIGUSR1 end it with the exit code 75.
    """
    from scalenet_gp.pipelines.blockwise import Workers
    from scalenet_gp.pipelines.runs import RunFolder
    from scalenet_gp.pipelines.segmentation import objects_path, segmentation_table
    from scalenet_gp.pipelines.segmentation import segment as find_objects

    settings = read_config(config, overrides)
    names = classes.split(",") if classes else ()
    processes = Workers.create(count=workers, launcher=launcher, memory=int(memory * 2**30))
    if crops is not None:
        from scalenet_gp.pipelines.challenge import choose_manifest, segment_crops

        if prediction is None or output is None or region is not None:
            raise ConfigError(
                "--crops needs --prediction, the folder of predicted crops, and --output, and takes no --region: crops "
                "have theirs"
            )
        manifest = choose_manifest(crops, "--crops")
        of_crops = segment_crops(settings, prediction, output, manifest, classes=names, workers=processes)
        print_table(segmentation_table(of_crops))
        print_results({"segmented crops": output})
        return
    if run is None and (prediction is None or output is None):
        raise ConfigError("say with --run whose prediction to take, or with --prediction and --output which, and where")
    folder = RunFolder(run or Path())
    predicted = prediction or folder.prediction
    made = find_objects(
        settings,
        predicted,
        output or folder.segmentation,
        read_region(region),
        classes=names,
        thresholds=read_thresholds(run, predicted),
        merge_thresholds=read_merge_thresholds(run, predicted, settings),
        workers=processes,
    )
    print_table(segmentation_table({"": made}))
    print_results({"segmented OME-Zarr": made, "table of objects": objects_path(made)})
