"""Progress bars for work that takes longer than a glance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Advance", "console", "progress_bar"]

console = Console(stderr=True)
"""Progress and messages go to standard error; standard output is for results."""

Advance = Callable[[str], None]
"""Called after each step, with what is to be said about it."""


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Advance]:
    """A bar of ``total`` steps, with the time gone and the time left."""
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, note="")

        def advance(note: str = "") -> None:
            progress.update(task, advance=1, note=note)

        yield advance
