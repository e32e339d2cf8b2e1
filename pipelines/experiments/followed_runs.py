"""Runs that are done by processes, with a table of what each does now."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from rich.live import Live

from scalenet_gp.pipelines.experiments.plan import Cell
from scalenet_gp.pipelines.experiments.processes import Progress, RunProcess, run_processes
from scalenet_gp.pipelines.experiments.tables import differing_names, progress_table
from scalenet_gp.pipelines.process import console
from scalenet_gp.pipelines.runs import RunFacts, RunFolder

__all__ = ["follow_runs"]


def follow_runs(
    runs: Mapping[Cell, RunProcess],
    lengths: Mapping[Cell, int],
    parallel: int,
    threads: int,
    received: Callable[[], signal.Signals | None],
    launcher: str = "",
    *,
    resumed_from: Path | None = None,
) -> dict[Cell, Progress]:
    """Do the runs that are not done yet, some at a time, and show what each does.

    On a terminal that is a table; elsewhere a line for each change. A run that fails leaves the others alone.

    Args:
        runs: the runs, whose run files are written.
        lengths: the iterations of each.
        parallel: the most at a time.
        threads: threads of each.
        received: returns the signal that came, or None.
        launcher: command that starts a process elsewhere; nothing for this machine.
        resumed_from: folder that a user resumes the runs from after a signal; None if they cannot be resumed.

    Returns:
        How each has ended.

    Raises:
        Interrupted: a signal came, and all processes have ended in good order.
    """
    done = {
        cell: Progress(cell, "done", lengths[cell])
        for cell, run in runs.items()
        if RunFacts.read(RunFolder(run.folder).facts).done
    }
    told = dict(done)
    with ExitStack() as shown:
        live = shown.enter_context(Live(console=console, auto_refresh=False)) if console.is_terminal else None

        def show(states: dict[Cell, Progress]) -> None:
            if live is not None:
                live.update(progress_table(list(runs), {**done, **states}, lengths), refresh=True)
                return
            for cell, one in states.items():  # a file has a line for each change
                if told.get(cell, Progress(cell)).state != one.state:
                    told[cell] = one
                    name = "/".join(differing_names(list(runs), cell))
                    line = f"{name}: {one.state}{f', {one.error}' if one.error else ''}"
                    console.print(line, markup=False, highlight=False, soft_wrap=True)

        ended = run_processes(
            [run for cell, run in runs.items() if cell not in done],
            parallel,
            threads,
            launcher,
            received,
            show,
            resumed_from,
        )
    return {cell: done.get(cell) or ended[cell] for cell in runs}
