"""The processes of an experiment: started, watched by their logs, and ended."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.experiments.plan import Cell
from scalenet_gp.pipelines.process import Interrupted

__all__ = ["Progress", "RunProcess", "RunState", "check_launcher", "read_progress", "run_processes"]

_WORKER = "scalenet_gp.pipelines.experiments.worker"
_POLL = 0.1  # seconds
_TAIL = 1 << 16  # bytes of a log that are read for the newest event

RunState = Literal["waiting", "training", "evaluating", "done", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run.

    Attributes:
        cell: the run.
        state: what it does.
        iteration: the last iteration that its log tells of.
        loss: the loss of it; None before the first.
        error: the last line of its error, if it failed.

    Example:
        >>> Progress(Cell("unet", "demo", 0)).state
        'waiting'
    """

    cell: Cell
    state: RunState = "waiting"
    iteration: int = 0
    loss: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunProcess:
    """A run to be done by a process.

    Attributes:
        cell: the run.
        file: its run file.
        folder: its folder.
        log: file for what the process tells.
        device: name of a torch device; that of the run file unless given.
        objects: names of classes, or of objects of affinities, to find and to compare.

    Example:
        >>> folder = Path("experiment/runs/unet/demo/0")
        >>> RunProcess(Cell("unet", "demo", 0), Path("0.yaml"), folder, Path("0.log")).folder.name
        '0'
    """

    cell: Cell
    file: Path
    folder: Path
    log: Path
    device: str | None = None
    objects: tuple[str, ...] = ()

    def start(self, threads: int, launcher: str) -> subprocess.Popen[bytes]:
        """Start the process, in a session of its own, so that Ctrl-C does not reach it."""
        command = [*shlex.split(launcher), sys.executable, "-m", _WORKER, str(self.file), str(self.folder)]
        command += ["--threads", str(threads)]
        command += [] if self.device is None else ["--device", self.device]
        command += ["--objects", ",".join(self.objects)] if self.objects else []
        # not every launcher keeps standard input open
        command += [] if launcher else ["--until-input-ends"]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with self.log.open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )


def check_launcher(launcher: str) -> None:
    """Check that the program of a launcher is here.

    Raises:
        ConfigError: it is not.
    """
    if launcher and shutil.which(program := shlex.split(launcher)[0]) is None:
        raise ConfigError(f"--launcher {launcher!r} begins with {program!r}, which is not a program here")


def read_progress(cell: Cell, log: Path) -> Progress:
    """Return the progress of a run that is being done, by the newest events in its log."""
    state: RunState = "training"
    step: dict[str, Any] = {}
    for event in _events(log):
        if event["event"] == "step":
            step = event
        elif event["event"] == "end" and event["reason"] == "done":
            state = "evaluating"
    return Progress(cell, state, step.get("iteration", 0), step.get("loss"))


def run_processes(
    runs: Sequence[RunProcess],
    parallel: int,
    threads: int,
    launcher: str,
    received: Callable[[], signal.Signals | None],
    show: Callable[[dict[Cell, Progress]], None],
    resumed_from: Path | None,
) -> dict[Cell, Progress]:
    """Do runs, some at a time, until each has ended. One that fails leaves the others alone.

    Args:
        runs: the runs, in the order in which they are started.
        parallel: the most at a time.
        threads: threads of each.
        launcher: command that starts a process elsewhere; nothing for this machine.
        received: returns the signal that came, or None.
        show: called with the progress of all runs, again and again.
        resumed_from: folder that a user resumes the runs from after a signal; None if they cannot be resumed.

    Returns:
        How each has ended.

    Raises:
        Interrupted: a signal came, and all processes have ended in good order.
    """
    states = {run.cell: Progress(run.cell) for run in runs}
    waiting, going = list(reversed(runs)), dict[Cell, _Going]()
    came: signal.Signals | None = None
    try:
        while waiting or going:
            while waiting and len(going) < parallel and came is None:
                run = waiting.pop()
                going[run.cell] = _Going(run, run.start(threads, launcher))
            for cell, one in list(going.items()):
                states[cell] = one.progress()
                if states[cell].state in ("done", "failed", "stopped"):
                    del going[cell]
            show(states)
            if came is None and (came := received()) is not None:
                waiting.clear()
                for one in going.values():
                    one.process.send_signal(signal.SIGTERM)
            if going:
                time.sleep(_POLL)
    finally:
        for one in going.values():  # only after an error of this loop
            one.process.send_signal(signal.SIGTERM)
            one.process.wait()
    if came is not None:
        raise Interrupted(came, resumed_from)
    return states


@final
@dataclass
class _Going:
    """A process that was started."""

    run: RunProcess
    process: subprocess.Popen[bytes]

    def progress(self) -> Progress:
        code = self.process.poll()
        seen = read_progress(self.run.cell, self.run.log)
        if code is None:
            return seen
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        if code in (os.EX_TEMPFAIL, -signal.SIGTERM):  # after its first batch, or while it was still starting
            return Progress(self.run.cell, "stopped", seen.iteration, seen.loss)
        if code:
            return Progress(self.run.cell, "failed", seen.iteration, seen.loss, _why(self.run.log, code))
        return Progress(self.run.cell, "done", seen.iteration, seen.loss)


def _why(log: Path, code: int) -> str:
    """Return the last line of a log that is not an event, or the signal that killed the process."""
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}"
    lines = [line for line in _tail(log).splitlines() if line.strip() and not line.startswith("{")]
    return lines[-1].strip() if lines else f"it ended with the exit code {code}, and said nothing"


def _events(log: Path) -> Iterator[dict[str, Any]]:
    for line in _tail(log).splitlines():
        if line.startswith("{"):
            with suppress(ValueError):  # the line may be half written
                event = json.loads(line)
                if "event" in event:
                    yield event


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
