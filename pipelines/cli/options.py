"""What the commands share: options that mean the same in each, and how results are told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

__all__ = ["ConfigFile", "Device", "Run", "Volume", "print_results", "print_table"]

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file that describes the run.")]
Volume = Annotated[
    str, typer.Option("--volume", help="Folder, or its URL, that holds the raw data and labels of the config.")
]
Run = Annotated[Path, typer.Option("--run", help="Folder of the run.")]
Device = Annotated[
    str | None, typer.Option("--device", help="torch device; a GPU if there is one, else the processor.")
]


def print_table(table: Table) -> None:
    """Show a table, as wide as the terminal."""
    terminal = Console()
    # a file or a pipe has no width to keep to
    (terminal if terminal.is_terminal else Console(width=160)).print(table)


def print_results(paths: Mapping[str, Path]) -> None:
    """Say where things are, a line each."""
    width = max(map(len, paths))
    for name, path in paths.items():
        typer.echo(f"{name:<{width}}  {path}")
