"""Progress bars for work that takes longer than a glance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["Advance", "console", "progress_bar"]

console = Console(stderr=True)
"""Progress and messages go to standard error; standard output is for results."""

Advance = Callable[[str], None]
"""Called after each step with a note, whose first line stands beside the bar, and the others below it."""


@contextmanager
def progress_bar(title: str, total: int, completed: int = 0) -> Iterator[Advance]:
    """Show a bar of ``total`` steps, some of them completed, with the time gone and the time left."""
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with _WithLinesBelow(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, completed=completed, note="", below="")

        def advance(note: str = "") -> None:
            beside, _, below = note.partition("\n")
            progress.update(task, advance=1, note=beside, below=below)

        yield advance


class _WithLinesBelow(Progress):
    """A progress bar with lines below it."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        for task in self.tasks:
            if task.fields["below"]:
                yield Text(task.fields["below"], style="dim")
