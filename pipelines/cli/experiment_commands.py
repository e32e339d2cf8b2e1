"""Commands of experiments: many runs at once, and the report of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scalenet_gp.pipelines.cli.options import Device, Volume, print_results, print_table

__all__ = ["experiment", "report"]


def experiment(
    matrix: Annotated[Path, typer.Argument(metavar="MATRIX", help="YAML file with models, data sets and seeds.")],
    volume: Volume = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Folder of the experiment; the name of MATRIX without its ending by default."),
    ] = None,
    parallel: Annotated[
        int | None, typer.Option("--parallel", min=1, help="Runs at a time; those of the matrix by default.")
    ] = None,
    launcher: Annotated[
        str, typer.Option("--launcher", help="Command that starts a run elsewhere: 'srun -n1 -c4'.")
    ] = "",
    device: Device = None,
    only_plan: Annotated[
        bool,
        typer.Option("--dry-run", help="Check all, print widths and lengths of the training, and write nothing."),
    ] = False,
) -> None:
    """Train, predict and evaluate every model on every data set with every seed.

    The same command resumes an experiment, and adds what was added to MATRIX. A run that fails leaves the others alone,
    and the exit code is 1 then. SIGTERM and SIGUSR1 end it with the exit code 75.
    """
    from scalenet_gp.pipelines.experiments import (
        ExperimentFolder,
        ExperimentPlan,
        Matrix,
        experiment_table,
        plan_experiment,
        plan_table,
    )
    from scalenet_gp.pipelines.experiments import experiment as run

    settings = Matrix.read(matrix, volume)
    place = folder or Path(matrix.stem)
    if only_plan:
        before = ExperimentPlan.read(ExperimentFolder(place).plan)
        if before is not None:
            before.check_only_adds(settings, place)
        print_table(plan_table(plan_experiment(settings, before, device)))
        return
    result = run(settings, place, parallel=parallel, launcher=launcher, device=device)
    print_table(plan_table(result.plan))
    print_table(experiment_table(result))
    for cell, failed in result.failed.items():
        typer.echo(f"{cell} {failed.progress.state}: {failed.progress.error or 'the same command resumes it'}")
        typer.echo(f"    log: {failed.log}")
    print_results({"experiment": result.folder})
    if result.failed:
        raise typer.Exit(1)


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of an experiment, or any folder with folders of runs in it.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder of the report; report in DIR by default.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            help="Model that the others are compared with; that of the matrix's match, or the first, by default.",
        ),
    ] = None,
    predictions: Annotated[
        bool,
        typer.Option(
            "--predictions/--no-predictions",
            help="Read predictions and data, for calibration and pictures of places.",
        ),
    ] = True,
) -> None:
    """Write a page on many runs: scores, significance, cost, curves, fields of view, calibration, places, provenance.

    All numbers come from the files of the runs, and stand as CSV beside the figures. The same runs make the same
    report.
    """
    from scalenet_gp.pipelines.reports import report as write

    made = write(folder, output, reference, predictions=predictions)
    print_results({"report": made, "as HTML": made.with_suffix(".html")})
