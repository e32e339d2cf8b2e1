"""Commands that train a network and evaluate its prediction."""

from __future__ import annotations

import itertools
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.cli.options import (
    ConfigFile,
    Device,
    Overrides,
    Run,
    Volume,
    print_results,
    print_table,
    read_config,
)

__all__ = ["demo", "evaluate", "train"]


class LogForm(StrEnum):
    """Form in which progress is told."""

    BAR = "bar"
    JSON = "json"


def demo(
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Folder for everything; must not exist. demo, demo-2, ... by default."),
    ] = None,
    device: Device = None,
) -> None:
    """Make a volume, train on it, predict the held-out part, and evaluate the prediction."""
    from scalenet_gp.pipelines import demo as room
    from scalenet_gp.pipelines.evaluation import score_table

    numbered = (Path("demo" if number == 1 else f"demo-{number}") for number in itertools.count(1))
    result = room.demo(folder or next(path for path in numbered if not path.exists()), device=device)
    print_table(score_table(result.scores))
    print_results(
        {
            "TensorBoard log": result.log,
            "checkpoint": result.checkpoint,
            "predicted OME-Zarr": result.prediction,
            "picture": result.picture,
        }
    )


def train(
    config: ConfigFile,
    volume: Volume,
    # torchrun takes --run and --log for its own --run-path and --log-dir, cut short
    run: Annotated[
        Path | None, typer.Option("--run", "--run-folder", help="Folder of the run; needed unless --dry-run.")
    ] = None,
    device: Device = None,
    log: Annotated[
        LogForm, typer.Option("--log", "--log-form", help="A progress bar, or lines of JSON for machines.")
    ] = LogForm.BAR,
    only_try: Annotated[
        bool, typer.Option("--dry-run", help="Do a few steps, print what the run will take, and write nothing.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Train a network, or resume a run; then predict and evaluate the evaluation region.

    SIGTERM and SIGUSR1 end it with a checkpoint and the exit code 75: the same command resumes it.
    """
    settings = read_config(config, overrides)
    if only_try:
        from scalenet_gp.pipelines.inspection import dry_run, dry_run_table

        print_table(dry_run_table(dry_run(settings, volume, device)))
        return
    from scalenet_gp.pipelines.evaluation import final_evaluation, score_table
    from scalenet_gp.pipelines.prediction import describe_seam
    from scalenet_gp.pipelines.process import ending_at_once
    from scalenet_gp.pipelines.training import train as run_training

    if run is None:
        raise ConfigError("--run is missing: give the folder of the run, as --run runs/first, or --dry-run")
    checkpoint = run_training(settings, volume, run, device, log.value)
    if int(os.environ.get("RANK", 0)):
        return
    with ending_at_once(checkpoint):
        end = final_evaluation(settings, volume, run, checkpoint, device)
    if log is LogForm.JSON:
        return
    print_table(score_table(end.scores))
    print_results(
        {
            "TensorBoard log": run / "log",
            "newest checkpoint": checkpoint,
            "predicted with": end.network,
            "predicted OME-Zarr": end.prediction,
            "picture": end.picture,
        }
    )
    if seam := describe_seam(end.prediction):
        typer.echo(seam)


def evaluate(
    config: ConfigFile,
    volume: Volume,
    run: Run,
    prediction: Annotated[
        Path | None, typer.Option("--prediction", help="Predicted zarr group; prediction.zarr in the run unless given.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Compare a prediction with the annotation, and draw both."""
    from scalenet_gp.pipelines.evaluation import evaluate as compare
    from scalenet_gp.pipelines.evaluation import score_table
    from scalenet_gp.pipelines.plots import draw_prediction

    settings, predicted = read_config(config, overrides), prediction or run / "prediction.zarr"
    picture = run / "prediction.png"
    if picture.exists():
        raise FileExistsError(f"{picture} exists; remove it, and scores.json beside it, to evaluate again")
    scores = compare(settings, volume, predicted, output=run / "scores.json")
    draw_prediction(settings, volume, predicted, picture)
    print_table(score_table(scores))
    print_results({"scores": run / "scores.json", "picture": picture})
