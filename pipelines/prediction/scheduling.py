"""Having daisy hand out the blocks of a task, and ending that early if it has to end."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import daisy.v2 as daisy

from scalenet_gp.pipelines.prediction.block_progress import BlockProgress
from scalenet_gp.volumes import UnwritableDataError

__all__ = ["EndedEarly", "Received", "run_alone", "run_by_workers"]

Received = Callable[[], signal.Signals | None]
"""The signal that asked to end, or None."""

_POLL = 0.1  # seconds
_UNWRITABLE = f"exited with code {os.EX_IOERR}"
"""What daisy says of a worker that could not write."""


class EndedEarly(Exception):
    """Blocks are left that were not tried.

    Args:
        reason: why; the signal if one asked for that.
    """

    def __init__(self, reason: str | signal.Signals) -> None:
        super().__init__(str(reason))
        self.reason = reason


def run_alone(
    task: daisy.Task, work: Callable[[daisy.Block], None], progress: BlockProgress, received: Received
) -> None:
    """Do the blocks in this process, one after the other.

    Args:
        task: the blocks.
        work: does one.
        progress: is told how far it is.
        received: the signal that came.

    Raises:
        EndedEarly: a signal came, or nothing can be written.
    """

    def next_one(block: daisy.Block) -> None:
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

    task.process_function = next_one
    daisy.run_blockwise(task, multiprocessing=False, summary=False)


def run_by_workers(task: daisy.Task, host: str | None, progress: BlockProgress, received: Received) -> None:
    """Have worker processes do the blocks; ``task.process_function`` becomes one.

    When a signal comes, or a worker cannot write, no more blocks are handed out, and this ends when those that the
    workers have are done.

    Args:
        task: the blocks.
        host: the address of this machine for the workers; found out unless given.
        progress: is told how far it is.
        received: the signal that came.

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


def _reserve(task: daisy.Task) -> str:
    """Have the disk hold room for what daisy notes of every block.

    It notes that in files that are mapped into memory, and the system kills a process that does so on a full disk.

    Returns:
        Why that cannot be; "" if it can.
    """
    for path in Path(str(task.done_marker_path)).glob("*/c/**/*"):
        if path.is_file():
            with path.open("r+b") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
                except OSError as error:
                    if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # there are file systems that cannot
                        return f"{path} cannot be written: {error.strerror}"
    return ""


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "nothing was said")
