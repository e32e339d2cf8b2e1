"""The command line."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scalenet_gp.checkpoint import latest_checkpoint
from scalenet_gp.device import keep_freed_memory
from scalenet_gp.mermaid import to_mermaid
from scalenet_gp.nodes.tissue.options import TextureOptions
from scalenet_gp.nodes.volumes.storage import group_attributes
from scalenet_gp.pipelines import demo as demo_job
from scalenet_gp.pipelines import evaluate as evaluate_job
from scalenet_gp.pipelines import inspect as inspect_job
from scalenet_gp.pipelines import picture as picture_job
from scalenet_gp.pipelines import predict as predict_job
from scalenet_gp.pipelines import preview as preview_job
from scalenet_gp.pipelines import train as train_job
from scalenet_gp.pipelines import view as view_job
from scalenet_gp.pipelines.agreement import score_table
from scalenet_gp.pipelines.blockwise.engine import Workers
from scalenet_gp.pipelines.conclude import conclude
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.config_types import Region
from scalenet_gp.pipelines.dry_run import dry_run, dry_run_table
from scalenet_gp.pipelines.progress import console
from scalenet_gp.pipelines.run_folder import RunFolder
from scalenet_gp.pipelines.signals import Interrupted, ending_at_once
from scalenet_gp.pipelines.tissue_mask import mask_of_prediction, mask_tissue

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Multi-scale networks for 3D electron microscopy.")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file that describes the run.")]
Volume = Annotated[
    str, typer.Option("--volume", help="Folder, or its URL, that holds the raw data and labels of the config.")
]
Run = Annotated[Path, typer.Option("--run", help="Folder of the run.")]
Device = Annotated[
    str | None, typer.Option("--device", help="torch device; a GPU if there is one, else the processor.")
]


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
    _print(score_table(result.scores))
    _results(
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
    _results({"picture": preview_job.preview(Config.read(config), volume, output, samples, seed)})


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
        _print(dry_run_table(dry_run(settings, volume, device)))
        return
    if run is None:
        raise ValueError("say with --run which folder the run is to have")
    checkpoint = train_job.train(settings, volume, run, device, log.value)
    if int(os.environ.get("RANK", 0)):
        return
    with ending_at_once(checkpoint):
        end = conclude(settings, volume, run, checkpoint, device)
    if log is LogForm.JSON:
        return
    _print(score_table(end.scores))
    _results(
        {
            "TensorBoard log": run / "log",
            "newest checkpoint": checkpoint,
            "predicted with": end.network,
            "predicted OME-Zarr": end.prediction,
            "picture": end.picture,
        }
    )


class Stored(StrEnum):
    """How probabilities are stored."""

    UINT8 = "uint8"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Precision(StrEnum):
    """In which a network computes."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Symmetries(StrEnum):
    """Over which a prediction is averaged."""

    NONE = "none"
    MIRRORS = "mirrors"
    ALL = "all"


class Uncertainty(StrEnum):
    """What is stored beside the probabilities."""

    ENTROPY = "entropy"
    VARIANCE = "variance"


@app.command()
def predict(
    config: ConfigFile,
    volume: Volume,
    run: Run,
    output: Annotated[
        Path | None, typer.Option("--output", help="Zarr group to make; prediction.zarr in the run unless given.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            help="What to predict: all, or nm from the volume's corner as 0,0,0:800,4096,4096; else the config's "
            "evaluation region.",
        ),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="Instead of the run's best; several are averaged."),
    ] = None,
    outputs: Annotated[
        str | None, typer.Option("--outputs", help="Names of outputs, as 1_output,2_output; all unless given.")
    ] = None,
    stored: Annotated[Stored, typer.Option("--stored", help="How probabilities are stored.")] = Stored.UINT8,
    precision: Annotated[Precision, typer.Option("--precision", help="In which is computed.")] = Precision.FLOAT32,
    augment: Annotated[
        Symmetries, typer.Option("--augment", help="Average over mirrors, or all symmetries, of the lattice.")
    ] = Symmetries.NONE,
    uncertainty: Annotated[
        list[Uncertainty] | None, typer.Option("--uncertainty", help="What is stored beside the probabilities.")
    ] = None,
    mask: Annotated[
        str | None, typer.Option("--mask", help="Multiscale volume; blocks in which it is zero are left out.")
    ] = None,
    chunk: Annotated[int, typer.Option("--chunk", min=16, help="Voxels per axis that are stored in one file.")] = 64,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Worker processes; with 0 this one does all, for debugging.")
    ] = 1,
    devices: Annotated[
        str | None,
        typer.Option("--devices", help="torch devices that workers share out, as cuda:0,cuda:1; a GPU unless given."),
    ] = None,
    launcher: Annotated[
        str, typer.Option("--launcher", help="Command that starts a worker elsewhere: 'srun -n1 --gres=gpu:1'.")
    ] = "",
    host: Annotated[
        str | None, typer.Option("--host", help="Address at which workers find this machine; found out unless given.")
    ] = None,
    memory: Annotated[
        float, typer.Option("--memory", min=0, help="GiB for the blocks that a worker has at a time.")
    ] = 8,
) -> None:
    """Predict a region with a run's best network, or with its newest checkpoint if none was judged.

    The same command goes on with what is unfinished. SIGTERM and SIGUSR1 end it with the exit code 75.
    """
    folder = RunFolder(run)
    network = folder.best if folder.best.is_file() else latest_checkpoint(folder.checkpoints)
    networks = checkpoint or ([] if network is None else [network])
    if not networks:
        raise FileNotFoundError(f"there is no whole checkpoint in {folder.checkpoints}; train first")
    prediction = predict_job.predict(
        Config.read(config),
        volume,
        networks,
        output or folder.prediction,
        _region(region),
        workers=Workers(
            workers,
            tuple(devices.split(",")) if devices else (),
            launcher,
            host,
            int(memory * 2**30),
        ),
        outputs=outputs.split(",") if outputs else None,
        mask=mask,
        stored=stored.value,
        precision=precision.value,
        symmetries=augment.value,
        chunk=chunk,
        products=("mean", *(product.value for product in uncertainty or ())),
    )
    _results({"predicted OME-Zarr": prediction})
    skipped = group_attributes(prediction).get("skipped_blocks")
    if skipped is not None:
        typer.echo(f"blocks left out    {skipped}, where the mask is zero")


def _region(text: str | None) -> Region | Literal["all"] | None:
    """What ``--region`` says.

    Raises:
        ValueError: it is no region.
    """
    if text is None:
        return None
    if text == "all":
        return "all"
    begin, _, end = text.partition(":")
    try:
        return Region.model_validate({"begin": begin.split(","), "end": end.split(",")})
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ValueError(
            f"--region is all, or two corners in nm as 0,0,0:800,4096,4096, not {text!r}: {reason}"
        ) from error


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
    _print(score_table(scores))
    _results({"scores": run / "scores.json", "picture": picture})


@app.command()
def mask(
    volume: Annotated[str, typer.Argument(metavar="VOLUME", help="Multiscale volume, or its URL, to find tissue in.")],
    output: Annotated[Path, typer.Option("--output", help="Zarr group to make: mask, confidence and a picture.")],
    voxel_size: Annotated[
        str | None, typer.Option("--voxel-size", help="nm: 128, or one per axis as 100,128,128; about 90 by default.")
    ] = None,
    block_size: Annotated[int, typer.Option("--block-size", help="Voxels: the window of local statistics.")] = 64,
    texture_sigma: Annotated[float, typer.Option("--texture-sigma", help="Voxels: the scale of texture.")] = 1.0,
    edge_sigma: Annotated[float, typer.Option("--edge-sigma", help="Voxels: the scale of edges.")] = 0.5,
    min_region_size: Annotated[
        int, typer.Option("--min-region-size", help="Voxels of the smallest region, and of the smallest hole.")
    ] = 250,
    predicted: Annotated[
        str | None, typer.Option("--predicted", help="VOLUME is a prediction; this class of it is tissue.")
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", help="With --predicted: the probability from which on it is.")
    ] = 0.5,
) -> None:
    """Find where there is tissue, by its texture or from what a network predicts, so that the rest is not computed."""
    if predicted is None:
        options = TextureOptions(block_size, texture_sigma, edge_sigma, min_region_size)
        made = mask_tissue(volume, output, options, voxel_size and voxel_size.split(","))
    else:
        made = mask_of_prediction(volume, output, predicted, threshold)
    _results({"mask": made / "mask", "confidence": made / "confidence", "picture": made / "mask.png"})


@app.command()
def view(
    prediction: Annotated[Path, typer.Argument(metavar="OUT", help="Predicted zarr group, finished or not.")],
    raw: Annotated[
        str | None, typer.Option("--raw", help="OME-Zarr volume of raw data, or its URL, to lay it over.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="JSON file for the state; beside OUT unless given.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve the files on this machine until interrupted.")
    ] = True,
    port: Annotated[int, typer.Option("--port", help="Port to serve on; 0 for one that is free.")] = view_job.PORT,
) -> None:
    """Write neuroglancer's state for a prediction, a layer for each class, and print the link that shows it."""
    with view_job.view(prediction, raw, output, serve=serve, port=port) as shown:
        _results({"neuroglancer state": shown.state})
        typer.echo(shown.link)
        if serve:
            with suppress(KeyboardInterrupt):
                Event().wait()


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
        raise ValueError(f"--size is a number of voxels, as 64 or 4,128,128, not {size!r}") from None
    plan = inspect_job.plan_of_shape(net, voxels * net.dims if len(voxels) == 1 else voxels)
    _print(inspect_job.plan_table(net, plan))
    typer.echo(to_mermaid(net))


def main() -> None:
    """Run a command; what a user can mend is said in one line."""
    logging.getLogger("gunpowder").setLevel(logging.CRITICAL)  # it logs every error that is raised too
    keep_freed_memory()
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


def _print(table: Table) -> None:
    terminal = Console()
    # a file or a pipe has no width to keep to
    (terminal if terminal.is_terminal else Console(width=160)).print(table)


def _results(paths: Mapping[str, Path]) -> None:
    """Say where things are, a line each."""
    width = max(map(len, paths))
    for name, path in paths.items():
        typer.echo(f"{name:<{width}}  {path}")


if __name__ == "__main__":
    main()
