"""Options that several commands have, and how results are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from scalenet_gp.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from scalenet_gp.pipelines.config import Config, Region

__all__ = [
    "ConfigFile",
    "Device",
    "OnceEachCommand",
    "OptionalConfigFile",
    "Overrides",
    "Run",
    "SourceName",
    "Volume",
    "folder_of",
    "print_results",
    "print_table",
    "read_config",
    "read_merge_thresholds",
    "read_region",
    "read_thresholds",
]

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file that describes the run.")]
OptionalConfigFile = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG]", help="YAML file that describes the run.")
]
Volume = Annotated[
    str | None,
    typer.Option(
        "--volume",
        help="Folder, or its URL, that paths of the config start at; the folder of the config unless given.",
    ),
]
SourceName = Annotated[
    str | None,
    typer.Option("--source", help="Name of the source of the config, as `check` lists them; the only one by default."),
]
Run = Annotated[Path, typer.Option("--run", help="Folder of the run.")]
Device = Annotated[
    str | None, typer.Option("--device", help="torch device; a GPU if there is one, else the processor.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY.PATH=VALUE",
        help="Value (YAML) to use instead of the config's, as in training.iterations=500; can be repeated.",
    ),
]


class OnceEachCommand(TyperCommand):
    """A command that refuses an option given twice, of which only the last would count, unless it can be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return the arguments that are left.

        Raises:
            typer.BadParameter: an option is given twice.
        """
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in given:
            if given.count(parameter) > 1 and not getattr(parameter, "multiple", False):
                hint = " / ".join(parameter.opts)
                raise typer.BadParameter(
                    "it is given more than once, and only one value can count", ctx, param_hint=hint
                )
        return super().parse_args(ctx, args)


def read_config(path: Path, overrides: Iterable[str] | None) -> Config:
    """Return the config in a file, with the values that ``--set`` gives."""
    from scalenet_gp.pipelines.config import Config

    return Config.read(path, overrides or ())


def folder_of(config: Path, settings: Config, volume: str | None) -> str:
    """Return the folder, or its URL, that paths of a config start at.

    Args:
        config: the file of the config.
        settings: what it says.
        volume: the folder that the command line says, if any.
    """
    if volume is not None:
        return volume
    folder = settings.data.folder
    if folder is None:
        return str(config.absolute().parent)
    return folder if "://" in folder else str(config.absolute().parent / folder)


def print_table(table: Table) -> None:
    """Show a table, as wide as the terminal."""
    from rich.console import Console

    terminal = Console()
    # a file or a pipe has no width to keep to
    (terminal if terminal.is_terminal else Console(width=160)).print(table)


def print_results(paths: Mapping[str, Path]) -> None:
    """Print the names of files and their paths, a line each."""
    width = max(map(len, paths))
    for name, path in paths.items():
        typer.echo(f"{name:<{width}}  {path}")


def read_region(text: str | None) -> Region | Literal["all"] | None:
    """Return the region that ``--region`` names.

    Raises:
        ConfigError: it does not name a region.
    """
    from scalenet_gp.errors import ArgumentError
    from scalenet_gp.pipelines.config import Region

    if text is None:
        return None
    if text == "all":
        return "all"
    begin, _, end = text.partition(":")
    try:
        return Region.create(begin=begin.split(","), end=end.split(","))
    except ArgumentError as error:
        raise ConfigError(
            f"--region is all, or two corners in nm as 0,0,0:800,4096,4096, not {text!r}: {error}"
        ) from error


def read_thresholds(run: Path | None, prediction: Path) -> dict[str, dict[str, float]]:
    """Return the thresholds of classes, by output, that were chosen for a run, and say so; nothing if none were.

    Raises:
        ConfigError: they were chosen for another network than the prediction's.
    """
    from scalenet_gp.pipelines.runs import ChosenThresholds, RunFolder
    from scalenet_gp.volumes import find_node

    chosen = None if run is None else ChosenThresholds.read(RunFolder(run).thresholds)
    node = find_node(prediction)
    if run is None or chosen is None or node is None:
        return {}
    chosen.check_networks([network["sha256"] for network in node.attributes.get("job", {}).get("networks", ())])
    typer.echo(f"thresholds of classes are those of {RunFolder(run).thresholds}, where the run file gives none")
    return {output: chosen.of(output) for output in chosen.outputs}


def read_merge_thresholds(run: Path | None, prediction: Path, config: Config) -> dict[str, float]:
    """Return the merge thresholds of objects that were chosen for a run, and say so; nothing if none were.

    Raises:
        ConfigError: they were chosen for another network than the prediction's, or for another method than the config's
            that has no threshold of its own.
    """
    from scalenet_gp.pipelines.runs import ChosenMergeThresholds, RunFolder
    from scalenet_gp.volumes import find_node

    chosen = None if run is None else ChosenMergeThresholds.read(RunFolder(run).merge_thresholds)
    node = find_node(prediction)
    if run is None or chosen is None or node is None:
        return {}
    chosen.check_networks([network["sha256"] for network in node.attributes.get("job", {}).get("networks", ())])
    for name, options in config.segmentation.objects.items():
        if options.merge_threshold is None and name in chosen.objects:
            chosen.check_method(name, options.model_dump(mode="json"))
    typer.echo(f"merge thresholds are those of {RunFolder(run).merge_thresholds}, where the run file gives none")
    return dict(chosen.objects)
