"""Commands around prediction: predict volumes, find tissue, and look at the result."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Literal

import typer

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.cli.options import (
    ConfigFile,
    Overrides,
    SourceName,
    Volume,
    folder_of,
    print_results,
    read_config,
    read_region,
)

__all__ = ["mask", "predict", "view"]


class Translation(StrEnum):
    """Points that positions in a volume's file name."""

    CENTRE = "centre"
    CORNER = "corner"


def predict(
    config: ConfigFile,
    volume: Volume = None,
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
            help="Region to predict: all, or nm from the volume's corner as 0,0,0:800,4096,4096; else the config's "
            "evaluation region.",
        ),
    ] = None,
    source: SourceName = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="Checkpoint to use instead of the run's best; several are averaged."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=PATH",
            help="Volume that the network reads beside the raw data, such as an earlier network's prediction, as in "
            "lsd=first.zarr/output; that of the source unless given; can be repeated.",
        ),
    ] = None,
    mask: Annotated[
        str | None, typer.Option("--mask", help="Multiscale volume; blocks in which it is zero are left out.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Worker processes; with 0 this one does all, for debugging.")
    ] = 1,
    devices: Annotated[
        str | None,
        typer.Option("--devices", help="torch devices that workers share, as cuda:0,cuda:1; a GPU unless given."),
    ] = None,
    launcher: Annotated[
        str, typer.Option("--launcher", help="Command that starts a worker elsewhere: 'srun -n1 --gres=gpu:1'.")
    ] = "",
    memory: Annotated[
        float, typer.Option("--memory", min=0, help="GiB for the blocks that a worker has at a time.")
    ] = 8,
    crops: Annotated[
        Path | None,
        typer.Option(
            "--crops",
            help="Manifest of the CellMap challenge's test crops, or test for its own; each is predicted into "
            "OUTPUT/<crop>.zarr, from the raw volumes below --volume.",
        ),
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(
            "--raw",
            help="With --crops: path of a dataset's raw volume below --volume; {dataset}/{dataset}.zarr/recon-1/em/* "
            "unless given.",
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Predict a region with a run's best network, or with its newest checkpoint if none was validated.

    Set further options of the config's prediction with --set, as in --set prediction.stored=float32; --set workers.host
    sets the address at which workers find this machine. The same command resumes an unfinished prediction. SIGTERM
    and SIGUSR1 end it with the exit code 75.
    """
    from scalenet_gp.pipelines.config import apply_overrides, to_yaml
    from scalenet_gp.pipelines.prediction import Workers, describe_seam
    from scalenet_gp.pipelines.prediction import predict as run_prediction
    from scalenet_gp.pipelines.runs import RunFolder
    from scalenet_gp.volumes import group_attributes

    of_workers = [override for override in overrides or () if override.strip().startswith("workers.")]
    of_config = [override for override in overrides or () if override not in of_workers]
    settings = read_config(config, of_config if mask is None else [*of_config, f"prediction.mask={to_yaml(mask)}"])
    if run is None:
        if not checkpoint or output is None:
            raise ConfigError(
                "say with --run whose network to take, or with --checkpoint and --output which, and where to"
            )
        networks, made = checkpoint, output
    else:
        networks, made = checkpoint or [_network_of(run)], output or RunFolder(run).prediction
    given = {
        "count": workers,
        "devices": devices.split(",") if devices else (),
        "launcher": launcher,
        "memory": int(memory * 2**30),
    }
    try:
        processes = Workers.create(**apply_overrides({"workers": given}, of_workers)["workers"])
    except TypeError as error:
        raise ConfigError(f"--set {of_workers[0].partition('=')[0]}: {error}") from None
    folder = folder_of(config, settings, volume)
    if crops is not None:
        from scalenet_gp.pipelines.challenge import RAW_LAYOUT, choose_manifest, predict_crops

        if output is None or region is not None or source is not None or inputs:
            raise ConfigError(
                "--crops needs --output, a folder, and takes no --region, --source or --input: crops have theirs"
            )
        manifest = choose_manifest(crops, "--crops")
        predict_crops(settings, Path(folder), networks, output, manifest, raw=raw or RAW_LAYOUT, workers=processes)
        print_results({"predicted crops": output})
        return
    if raw is not None:
        raise ConfigError("--raw says where the raw volumes of --crops are: leave it out")
    chosen: dict[str, Any] = {"source": source, "inputs": _inputs(inputs or ()), "workers": processes}
    prediction = run_prediction(settings, folder, networks, made, read_region(region), **chosen)
    print_results({"predicted OME-Zarr": prediction})
    skipped = group_attributes(prediction).get("skipped_blocks")
    if skipped is not None:
        typer.echo(f"blocks left out    {skipped}, where the mask is zero")
    if seam := describe_seam(prediction):
        typer.echo(seam)


def mask(
    volume: Annotated[str, typer.Argument(metavar="VOLUME", help="Multiscale volume, or its URL, to find tissue in.")],
    output: Annotated[Path, typer.Option("--output", help="Zarr group to make: mask, confidence and a picture.")],
    voxel_size: Annotated[
        str | None, typer.Option("--voxel-size", help="nm: 128, or one per axis as 100,128,128; about 90 by default.")
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
        typer.Option(
            "--translation", help="Point of a voxel that positions in VOLUME's file give; else as its format says."
        ),
    ] = None,
    unit: Annotated[
        str | None, typer.Option("--unit", help="Unit of lengths in VOLUME's file if it names none: nanometer.")
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select",
            metavar="AXIS=ENTRY",
            help="Entry of an axis before the spatial ones, as in c=0 or t=5; can be repeated.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Option of the texture: block_size, texture_sigma, edge_sigma or min_region_size; can be repeated.",
        ),
    ] = None,
) -> None:
    """Find where there is tissue, by its texture or from a prediction, so that the rest is not computed."""
    from scalenet_gp.options import coerce_arguments, suggest
    from scalenet_gp.pipelines.config import apply_overrides
    from scalenet_gp.pipelines.masks import mask_of_prediction, mask_tissue
    from scalenet_gp.tissue import TextureOptions

    options = apply_overrides({}, overrides or ())
    known = [field.name for field in fields(TextureOptions)]
    for name in options:
        if name not in known:
            raise ConfigError(f"--set {name}: there is no option {name} of the texture; {suggest(name, known)}")
    positions: Literal["centre", "corner"] | None = None if translation is None else translation.value
    if predicted is None:
        if threshold is not None:
            raise ConfigError(
                "--threshold is one of probabilities: name the class of a prediction with --predicted too"
            )
        size = voxel_size and voxel_size.split(",")
        texture = TextureOptions(**coerce_arguments(TextureOptions, options))
        chosen = _selection(select or ())
        made = mask_tissue(volume, output, texture, size, translation=positions, unit=unit, select=chosen)
    else:
        given = {"--voxel-size": voxel_size, "--unit": unit, "--select": select}
        for_texture = [name for name, value in given.items() if value] + [f"--set {name}" for name in options]
        if for_texture:
            raise ConfigError(
                f"{', '.join(for_texture)}: this is for texture; leave it out with --predicted, which takes voxels as "
                "they are"
            )
        made = mask_of_prediction(volume, output, predicted, 0.5 if threshold is None else threshold, positions)
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
    port: Annotated[int, typer.Option("--port", help="Port to serve on; 0 for one that is free.")] = 9876,
    translation: Annotated[
        Translation | None,
        typer.Option(
            "--translation",
            help="Point of a voxel that positions in the raw data's file give; else as its format says.",
        ),
    ] = None,
) -> None:
    """Write neuroglancer's state for a prediction, a layer for each class, and print the link that shows it."""
    from scalenet_gp.pipelines.viewing import view as show

    with show(
        prediction, raw, output, serve=serve, port=port, translation=None if translation is None else translation.value
    ) as shown:
        print_results({"neuroglancer state": shown.state})
        if shown.link is None:
            typer.echo(f"the state is too long for a link: leave --no-serve out, or load {shown.state} in neuroglancer")
        else:
            typer.echo(shown.link)
        if serve:
            with suppress(KeyboardInterrupt):
                Event().wait()


def _selection(entries: Iterable[str]) -> dict[str, int | str]:
    """Return the entries to read of axes.

    Raises:
        ConfigError: one is not ``AXIS=ENTRY``.
    """
    chosen: dict[str, int | str] = {}
    for entry in entries:
        axis, equals, value = entry.partition("=")
        if not (axis and equals and value):
            raise ConfigError(f"--select is an axis and an entry of it, as c=0, not {entry!r}")
        chosen[axis] = int(value) if value.isdecimal() else value
    return chosen


def _inputs(entries: Iterable[str]) -> dict[str, str]:
    """Return the paths of volumes by their names.

    Raises:
        ConfigError: an entry is not ``NAME=PATH``, or a name is there twice.
    """
    paths: dict[str, str] = {}
    for entry in entries:
        name, equals, path = entry.partition("=")
        if not (name and equals and path) or name in paths:
            raise ConfigError(f"--input is a name and a path, as lsd=first.zarr/output, once each, not {entry!r}")
        paths[name] = path
    return paths


def _network_of(run: Path) -> Path:
    """Return the best network of a run, or the newest if none was validated.

    Raises:
        FileNotFoundError: the run has no whole checkpoint.
    """
    from scalenet_gp.pipelines.runs import RunFolder
    from scalenet_gp.training import latest_checkpoint

    folder = RunFolder(run)
    network = folder.best if folder.best.is_file() else latest_checkpoint(folder.checkpoints)
    if network is None:
        raise FileNotFoundError(f"there is no whole checkpoint in {folder.checkpoints}; train first")
    return network
