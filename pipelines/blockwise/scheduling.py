"""Scheduling: daisy hands out the blocks of a stage, and stops early where it has to."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import final

import daisy.v2 as daisy

from scalenet_gp.pipelines.process import Advance, progress_bar
from scalenet_gp.volumes import UnwritableDataError

__all__ = ["BlockProgress", "EndedEarly", "Received", "lacks_room", "run_alone", "run_by_workers"]

Received = Callable[[], signal.Signals | None]
"""Returns the signal that asked to end, or None."""

_POLL = 0.1  # seconds
_ROOM, _RECORD = 2**15, 5
"""Bytes of daisy's records of a stage, and of each of its blocks."""
_UNWRITABLE = f"exited with code {os.EX_IOERR}"
"""daisy's words for a worker that could not write."""


class EndedEarly(Exception):
    """A run ended with blocks that were not tried.

    Args:
        reason: why, or the signal that asked for it.
    """

    def __init__(self, reason: str | signal.Signals) -> None:
        super().__init__(str(reason))
        self.reason = reason


@final
class BlockProgress:
    """Shows the blocks that are done, the voxels per second, and the failed blocks; daisy calls it as an observer.

    Args:
        done: number of blocks that earlier runs did.
        voxels: voxels of a block, on average.
        advance: moves the bar.

    Attributes:
        begun: True once daisy has begun.
        last_worker_error: last words of the worker that died last; "" if none died.
    """

    def __init__(self, done: int, voxels: float, advance: Advance) -> None:
        self.begun = False
        self.last_worker_error = ""
        self._before = self._done = done
        self._voxels = voxels
        self._advance = advance
        self._start = time.monotonic()

    @classmethod
    @contextmanager
    def shown(cls, title: str, blocks: int, done: int, voxels: float) -> Iterator[BlockProgress]:
        """Show a bar of ``blocks`` steps while the context lasts."""
        with progress_bar(title, blocks, done) as advance:
            yield cls(done, voxels, advance)

    def add(self) -> None:
        """Count one more block as done."""
        self._show(self._done + 1, failed=0)

    def on_start(self, states: Mapping[str, daisy.TaskState]) -> None:
        """Note that daisy begins."""
        self.begun = True

    def on_progress(self, states: Mapping[str, daisy.TaskState]) -> None:
        """Show what happened; daisy calls this twice a second at most."""
        for state in states.values():
            self.last_worker_error = state.last_worker_error or ""
            self._show(state.completed_count, state.failed_count)

    def on_finish(self, states: Mapping[str, daisy.TaskState]) -> None:
        """Show the end."""
        self.on_progress(states)

    def _show(self, done: int, failed: int) -> None:
        rate = (done - self._before) * self._voxels / max(time.monotonic() - self._start, 1e-9)
        note = f"{rate / 1e6:.3g} Mvoxel/s" + (f", {failed} failed" if failed else "")
        for _ in range(done - self._done):
            self._advance(note)
        self._done = max(done, self._done)


def run_alone(
    task: daisy.Task, work: Callable[[daisy.Block], None], progress: BlockProgress, received: Received
) -> None:
    """Do the blocks in this process, one after the other.

    Args:
        task: the blocks.
        work: does a block.
        progress: shows the blocks that are done.
        received: returns the signal that came.

    Raises:
        EndedEarly: a signal came, or nothing can be written.
    """

    def do_next(block: daisy.Block) -> None:
        if not progress.begun:
            progress.begun = True
            if reason := _reserve(task):
                raise EndedEarly(reason)
        if (came := received()) is not None:
            raise EndedEarly(came)
        try:
            work(block)
        except UnwritableDataError as error:
            raise EndedEarly(str(error)) from error
        if block.status != daisy.BlockStatus.FAILED:
            progress.add()

    task.process_function = do_next
    daisy.run_blockwise(task, multiprocessing=False, summary=False)


def run_by_workers(task: daisy.Task, host: str | None, progress: BlockProgress, received: Received) -> None:
    """Have worker processes do the blocks; ``task.process_function`` starts one.

    When a signal comes, or a worker cannot write, no more blocks are handed out. This ends when the workers have done
    the blocks that they have.

    Args:
        task: the blocks.
        host: address of this machine for the workers; found by itself unless given.
        progress: shows the blocks that are done.
        received: returns the signal that came.

    Raises:
        EndedEarly: a signal came, nothing can be written, or too many workers died.
    """
    ended: str | signal.Signals = ""
    reserved = False
    # daisy keeps the thread that calls it from running Python, which handles signals in the main thread only
    with ThreadPoolExecutor(1, "scheduler") as thread:
        pipeline = daisy.Pipeline.from_task(task)
        running = thread.submit(daisy.Server().run_blockwise, pipeline, progress=progress, host=host, summary=False)
        while not running.done():
            wait([running], timeout=_POLL)
            if ended or not progress.begun:
                continue
            if not reserved:
                ended, reserved = _reserve(task), True
            came = received()
            if came is not None:
                ended = came
            elif _UNWRITABLE in progress.last_worker_error:
                ended = f"a worker cannot write, the disk may be full: {_last_line(progress.last_worker_error)}"
            if ended:
                os.kill(os.getpid(), signal.SIGINT)  # what daisy takes for a wish to end
    error = running.exception()
    if isinstance(error, KeyboardInterrupt):
        raise EndedEarly(ended or signal.SIGINT)
    (state,) = running.result().values()
    if state.abandoned:
        raise EndedEarly(
            f"too many worker processes died, the last one of: {_last_line(state.last_worker_error or '')}"
        )


def lacks_room(tracking: Path, blocks: int) -> str:
    """Return why daisy's records of so many blocks cannot be made; "" if there is room for them.

    daisy maps the files of these records into memory as it begins, and the system kills a process that does so on a
    full disk.
    """
    trial = tracking.with_name(f"{tracking.name}.room")
    try:
        tracking.parent.mkdir(parents=True, exist_ok=True)
        with trial.open("wb") as file:
            return _allocate(file.fileno(), _ROOM + _RECORD * blocks, tracking)
    except OSError as error:
        return f"{tracking} cannot be written: {error.strerror}"
    finally:
        trial.unlink(missing_ok=True)


def _reserve(task: daisy.Task) -> str:
    """Reserve disk space for daisy's records of every block; see :func:`lacks_room`."""
    for path in Path(str(task.done_marker_path)).glob("*/c/**/*"):
        if path.is_file():
            with path.open("r+b") as file:
                if reason := _allocate(file.fileno(), path.stat().st_size, path):
                    return reason
    return ""


def _allocate(file: int, size: int, path: Path) -> str:
    """Return why a file cannot have so many bytes on the disk; "" if it has them."""
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # some file systems cannot
            return f"{path} cannot be written: {error.strerror}"
    return ""


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "nothing was said")
