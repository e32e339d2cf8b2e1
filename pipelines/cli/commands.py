"""The command line."""

from __future__ import annotations

import itertools
import logging
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from scalenet_gp.errors import ConfigError
from scalenet_gp.kernels import keep_freed_memory, set_deterministic_mkl
from scalenet_gp.metrics import score_table
from scalenet_gp.pipelines.cli.options import ConfigFile, Device, Run, Volume, print_results, print_table
from scalenet_gp.pipelines.cli.prediction_commands import mask, predict, view
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.demo import demo_job
from scalenet_gp.pipelines.evaluation import evaluate_job, final_evaluation
from scalenet_gp.pipelines.inspection import dry_run, dry_run_table, preview_job
from scalenet_gp.pipelines.inspection import plan_table as inspect_job
from scalenet_gp.pipelines.plots import picture as picture_job
from scalenet_gp.pipelines.process import Interrupted, console, ending_at_once
from scalenet_gp.pipelines.training import train_job

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Multi-scale networks for 3D electron microscopy.")


@app.command()
def demo(
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Where everything goes; must not exist. demo, demo-2, ... by default."),
    ] = None,
    device: Device = None,
) -> None:
    """Make a volume, train on it, predict what was held out, and judge the prediction."""
    numbered = (Path("demo" if number == 1 else f"demo-{number}") for number in itertools.count(1))
    result = demo_job.demo(folder or next(path for path in numbered if not path.exists()), device=device)
    print_table(score_table(result.scores))
    print_results(
        {
            "TensorBoard log": result.log,
            "checkpoint": result.checkpoint,
            "predicted OME-Zarr": result.prediction,
            "picture": result.picture,
        }
    )


@app.command()
def preview(
    config: ConfigFile,
    volume: Volume,
    output: Annotated[Path, typer.Option("--output", help="PNG file to make.")] = Path("preview.png"),
    samples: Annotated[int, typer.Option("--samples", help="How many samples to draw.")] = 3,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of the run; that of the config unless given.")
    ] = None,
) -> None:
    """Draw samples that a run would learn from: every scale, the classes, before and after augmentation."""
    print_results({"picture": preview_job.preview(Config.read(config), volume, output, samples, seed)})


class LogForm(StrEnum):
    """How progress is told."""

    BAR = "bar"
    JSON = "json"


@app.command()
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
        bool, typer.Option("--dry-run", help="Do a few steps, say what the run will take, and write nothing.")
    ] = False,
) -> None:
    """Train a network, or go on with a run; then predict and judge the evaluation region.

    SIGTERM and SIGUSR1 end it with a checkpoint and the exit code 75: the same command goes on.
    """
    settings = Config.read(config)
    if only_try:
        print_table(dry_run_table(dry_run(settings, volume, device)))
        return
    if run is None:
        raise ConfigError("say with --run which folder the run is to have")
    checkpoint = train_job.train(settings, volume, run, device, log.value)
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


for command in (predict, mask, view):
    app.command()(command)


@app.command()
def evaluate(
    config: ConfigFile,
    volume: Volume,
    run: Run,
    prediction: Annotated[
        Path | None, typer.Option("--prediction", help="Predicted zarr group; prediction.zarr in the run unless given.")
    ] = None,
) -> None:
    """Compare a prediction with the annotation, and draw both."""
    settings, predicted = Config.read(config), prediction or run / "prediction.zarr"
    picture = run / "prediction.png"
    if picture.exists():
        raise FileExistsError(f"{picture} exists; remove it, and scores.json beside it, to evaluate again")
    scores = evaluate_job.evaluate(settings, volume, predicted, output=run / "scores.json")
    picture_job.draw_prediction(settings, volume, predicted, picture)
    print_table(score_table(scores))
    print_results({"scores": run / "scores.json", "picture": picture})


@app.command()
def inspect(
    config: ConfigFile,
    size: Annotated[str, typer.Option("--size", help="Voxels of the finest output: 64, or one per axis as 4,128,128.")],
) -> None:
    """Print every tensor's ROI, shape, voxel size, channels and memory for an output size, and the mermaid graph."""
    net = Config.read(config).build_network()
    try:
        voxels = [int(part) for part in size.split(",")]
    except ValueError:
        raise ConfigError(f"--size is a number of voxels, as 64 or 4,128,128, not {size!r}") from None
    plan = inspect_job.plan_of_shape(net, voxels * net.dims if len(voxels) == 1 else voxels)
    print_table(inspect_job.plan_table(net, plan))
    typer.echo(net.to_mermaid())


def main() -> None:
    """Run a command; what a user can mend is said in one line."""
    logging.getLogger("gunpowder").setLevel(logging.CRITICAL)  # it logs every error that is raised too
    keep_freed_memory()
    set_deterministic_mkl()
    try:
        app()
    except Interrupted as interruption:
        console.print(f"{escape(str(interruption))}", style="dim", highlight=False, soft_wrap=True)
        raise
    except (ValueError, OSError, KeyError, MemoryError, FloatingPointError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        if isinstance(error, OSError) and error.strerror and error.filename is None:
            message = error.strerror  # without the number, which says nothing to a user
        # of what a worker process died of, all but the first line is for developers
        text = str(message).partition("\n")[0] if isinstance(error, ChildProcessError) else str(message)
        line = escape(" ".join(text.split()))
        console.print(f"[bold red]error:[/] {line}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
