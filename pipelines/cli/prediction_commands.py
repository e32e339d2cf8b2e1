"""The commands around prediction: of whole volumes, of where there is tissue, and looking at the result."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.cli.options import ConfigFile, Volume, print_results
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.masks import mask_of_prediction, mask_tissue
from scalenet_gp.pipelines.prediction import Workers, predict_job
from scalenet_gp.pipelines.training import RunFolder
from scalenet_gp.pipelines.viewing import view_job
from scalenet_gp.tissue import TextureOptions
from scalenet_gp.training import latest_checkpoint
from scalenet_gp.volumes import group_attributes

__all__ = ["mask", "predict", "view"]


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


class Translation(StrEnum):
    """What positions in a volume's file name."""

    CENTRE = "centre"
    CORNER = "corner"


def predict(
    config: ConfigFile,
    volume: Volume,
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of the run; needed unless --checkpoint and --output are given.")
    ] = None,
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
    stored: Annotated[Stored | None, typer.Option("--stored", help="How probabilities are stored.")] = None,
    precision: Annotated[Precision | None, typer.Option("--precision", help="In which is computed.")] = None,
    augment: Annotated[
        Symmetries | None, typer.Option("--augment", help="Average over mirrors, or all symmetries, of the lattice.")
    ] = None,
    uncertainty: Annotated[
        list[Uncertainty] | None, typer.Option("--uncertainty", help="What is stored beside the probabilities.")
    ] = None,
    mask: Annotated[
        str | None, typer.Option("--mask", help="MultiscaleImage volume; blocks in which it is zero are left out.")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option("--chunk", min=16, help="Voxels per axis stored in one file; 64, or 512 in 2D.")
    ] = None,
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
    if run is None:
        if not checkpoint or output is None:
            raise ConfigError(
                "say with --run whose network to take, or with --checkpoint and --output which, and where to"
            )
        networks, made = checkpoint, output
    else:
        networks, made = checkpoint or [_network_of(run)], output or RunFolder(run).prediction
    run_config = Config.read(config)
    prediction = predict_job.predict(
        run_config,
        volume,
        networks,
        made,
        _region(region),
        options=run_config.prediction.model_copy(
            update={
                name: value
                for name, value in {
                    "outputs": tuple(name.strip() for name in outputs.split(",")) if outputs else None,
                    "mask": mask,
                    "stored": stored and stored.value,
                    "precision": precision and precision.value,
                    "symmetries": augment and augment.value,
                    "chunk": chunk,
                    "products": ("mean", *(product.value for product in uncertainty)) if uncertainty else None,
                }.items()
                if value is not None
            }
        ),
        workers=Workers(
            count=workers,
            devices=tuple(devices.split(",")) if devices else (),
            launcher=launcher,
            host=host,
            memory=int(memory * 2**30),
        ),
    )
    print_results({"predicted OME-Zarr": prediction})
    skipped = group_attributes(prediction).get("skipped_blocks")
    if skipped is not None:
        typer.echo(f"blocks left out    {skipped}, where the mask is zero")


def mask(
    volume: Annotated[
        str, typer.Argument(metavar="VOLUME", help="MultiscaleImage volume, or its URL, to find tissue in.")
    ],
    output: Annotated[Path, typer.Option("--output", help="Zarr group to make: mask, confidence and a picture.")],
    voxel_size: Annotated[
        str | None, typer.Option("--voxel-size", help="nm: 128, or one per axis as 100,128,128; about 90 by default.")
    ] = None,
    block_size: Annotated[
        int | None, typer.Option("--block-size", help="Voxels: the window of local statistics; 64 by default.")
    ] = None,
    texture_sigma: Annotated[
        float | None, typer.Option("--texture-sigma", help="Voxels: the scale of texture; 1 by default.")
    ] = None,
    edge_sigma: Annotated[
        float | None, typer.Option("--edge-sigma", help="Voxels: the scale of edges; 0.5 by default.")
    ] = None,
    min_region_size: Annotated[
        int | None,
        typer.Option("--min-region-size", help="Voxels of the smallest region and smallest hole; 250 by default."),
    ] = None,
    predicted: Annotated[
        str | None, typer.Option("--predicted", help="VOLUME is a prediction; this class of it is tissue.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="With --predicted: the probability from which on; else 0.5."),
    ] = None,
    translation: Annotated[
        Translation | None,
        typer.Option("--translation", help="What positions in VOLUME's file name; what its format says by default."),
    ] = None,
) -> None:
    """Find where there is tissue, by its texture or from what a network predicts, so that the rest is not computed."""
    options: dict[str, Any] = {
        "block_size": block_size,
        "texture_sigma": texture_sigma,
        "edge_sigma": edge_sigma,
        "min_region_size": min_region_size,
    }
    chosen = {name: value for name, value in options.items() if value is not None}
    if predicted is None:
        if threshold is not None:
            raise ConfigError(
                "--threshold is one of probabilities: name the class of a prediction with --predicted too"
            )
        size = voxel_size and voxel_size.split(",")
        made = mask_tissue(
            volume,
            output,
            TextureOptions(**chosen),
            size,
            translation=None if translation is None else translation.value,
        )
    else:
        for_texture = [*([] if voxel_size is None else ["voxel_size"]), *chosen]
        if for_texture:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in for_texture)
            raise ConfigError(
                f"{names}: this is for texture; leave it out with --predicted, which takes voxels as they are"
            )
        made = mask_of_prediction(
            volume,
            output,
            predicted,
            0.5 if threshold is None else threshold,
            None if translation is None else translation.value,
        )
    print_results({"mask": made / "mask", "confidence": made / "confidence", "picture": made / "mask.png"})


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
    translation: Annotated[
        Translation | None,
        typer.Option("--translation", help="What positions in the raw data's file name; else as its format says."),
    ] = None,
) -> None:
    """Write neuroglancer's state for a prediction, a layer for each class, and print the link that shows it."""
    with view_job.view(
        prediction, raw, output, serve=serve, port=port, translation=None if translation is None else translation.value
    ) as shown:
        print_results({"neuroglancer state": shown.state})
        typer.echo(shown.link)
        if serve:
            with suppress(KeyboardInterrupt):
                Event().wait()


def _network_of(run: Path) -> Path:
    """The best network of a run, or the newest if none was judged.

    Raises:
        FileNotFoundError: there is none.
    """
    folder = RunFolder(run)
    network = folder.best if folder.best.is_file() else latest_checkpoint(folder.checkpoints)
    if network is None:
        raise FileNotFoundError(f"there is no whole checkpoint in {folder.checkpoints}; train first")
    return network


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
        raise ConfigError(
            f"--region is all, or two corners in nm as 0,0,0:800,4096,4096, not {text!r}: {reason}"
        ) from error
