"""Commands that look at a run file: its schema, its values, its network, its samples."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.cli.options import (
    ConfigFile,
    OnceEachCommand,
    OptionalConfigFile,
    Overrides,
    Volume,
    folder_of,
    print_results,
    print_table,
    read_config,
)

__all__ = ["check", "config_app", "inspect", "networks", "preview", "schema"]

VoxelSize = Annotated[
    str | None,
    typer.Option("--voxel-size", help="Voxel size (nm) of the finest output, as 40,4.6,4.6; 8,8,8 unless given."),
]

config_app = typer.Typer(no_args_is_help=True, help="Look at the values of a run file.")


@config_app.callback()
def _config() -> None:
    """Look at the values of a run file."""


@config_app.command(cls=OnceEachCommand)
def show(config: ConfigFile, overrides: Overrides = None) -> None:
    """Print the config as YAML, with a comment at every value that is a default."""
    from scalenet_gp.pipelines.config import resolved_yaml

    typer.echo(resolved_yaml(read_config(config, overrides)), nl=False)


def schema(
    output: Annotated[Path | None, typer.Option("--output", help="JSON file to write instead of printing it.")] = None,
) -> None:
    """Print the JSON schema of run files, with which editors complete and check them."""
    from scalenet_gp.pipelines.config import schema_text

    if output is None:
        typer.echo(schema_text(), nl=False)
        return
    output.write_text(schema_text(), encoding="utf-8")
    print_results({"schema": output})


def inspect(
    config: OptionalConfigFile = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            help="Kind of network to look at instead of a run file's, as hrnet: `networks` lists them. --set "
            "network.base_nc=24 changes it.",
        ),
    ] = None,
    voxel_size: VoxelSize = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Voxels of the finest output, and the same box of the others: 64, or one per axis as 4,128,128. A "
            "training sample unless given, and 64 with --network.",
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Print every tensor's ROI, shape, memory and cost, of a training sample or a size, and the mermaid graph."""
    from scalenet_gp.pipelines.data import sample_boxes
    from scalenet_gp.pipelines.inspection import build_kind, plan_of_shape, plan_table

    if (config is None) == (network is None):
        raise ConfigError("give a run file, or the kind of a network by --network: one of the two")
    if network is None and voxel_size is not None:
        raise ConfigError("--voxel-size is for --network; a run file says the voxel sizes of its network itself")
    if config is None:
        net = build_kind(str(network), _lengths(voxel_size), overrides or ())
        size = size or "64"
    else:
        read = read_config(config, overrides)
        net = read.build_network()
    if size is None:
        plan = net.plan(sample_boxes(net, read.training.output_shape, "training.output_shape"))
    else:
        try:
            voxels = [int(part) for part in size.split(",")]
        except ValueError:
            raise ConfigError(f"--size is a number of voxels, as 64 or 4,128,128, not {size!r}") from None
        plan = plan_of_shape(net, voxels * net.dims if len(voxels) == 1 else voxels)
    print_table(plan_table(net, plan))
    typer.echo(net.to_mermaid())


def networks(
    voxel_size: VoxelSize = None,
    size: Annotated[
        int, typer.Option("--size", min=1, help="Voxels of the finest output along each axis, for memory and work.")
    ] = 64,
) -> None:
    """List the kinds of networks with their parameters, work, field of view and memory, each with its defaults."""
    from scalenet_gp.networks import network_kinds
    from scalenet_gp.pipelines.inspection import build_kind, network_table, survey_network

    lengths = _lengths(voxel_size)
    print_table(
        network_table((survey_network(kind, build_kind(kind, lengths), size) for kind in network_kinds()), size)
    )


def _lengths(voxel_size: str | None) -> list[str]:
    """Return the voxel size that ``--voxel-size`` says, a text per axis.

    Raises:
        ConfigError: it is not two or three lengths above 0.
    """
    lengths = ["8", "8", "8"] if voxel_size is None else voxel_size.split(",")
    try:
        right = len(lengths) in (2, 3) and min(Fraction(length) for length in lengths) > 0
    except (ValueError, ZeroDivisionError):
        right = False
    if not right:
        raise ConfigError(f"--voxel-size has two or three lengths in nm, as 8,8,8 or 40,4.6,4.6, not {voxel_size!r}")
    return lengths


def check(
    config: ConfigFile,
    volume: Volume = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="PNG file to make, with a section of each source.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Look at the data before training: a line for each source, and what is wrong; then the exit code is 1."""
    from scalenet_gp.pipelines.inspection import check as look
    from scalenet_gp.pipelines.inspection import check_table

    settings = read_config(config, overrides)
    result = look(settings, folder_of(config, settings, volume), picture)
    print_table(check_table(result))
    if picture is not None and picture.exists():
        print_results({"picture": picture})
    for fault in result.all_faults:
        typer.echo(fault)
    if result.all_faults:
        raise typer.Exit(1)


def preview(
    config: ConfigFile,
    volume: Volume = None,
    output: Annotated[Path, typer.Option("--output", help="PNG file to make.")] = Path("preview.png"),
    samples: Annotated[int, typer.Option("--samples", help="Number of samples to draw.")] = 3,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of the run; that of the config unless given.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Draw samples that a run would learn from: every scale, the classes, before and after augmentation."""
    from scalenet_gp.pipelines.inspection import preview as draw

    settings = read_config(config, overrides)
    print_results({"picture": draw(settings, folder_of(config, settings, volume), output, samples, seed)})
