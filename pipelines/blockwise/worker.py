"""A worker process: it takes blocks from the scheduler, and hands them back when they are on the disk.

Reading, computing and writing overlap: several threads take a block each, with a connection of their own, and while
one of them computes the others read and write. A block that fails is handed back as failed, with its cause noted beside
the job, and the next one is taken. An error that every other block would meet too ends the process: a full disk with
the exit code 74 (``EX_IOERR``), an error that is not due to the data, such as a GPU that is gone, with 1. daisy gives
the blocks of a process that ends to others, and starts a new one. When the scheduler is gone, the process ends after
the blocks that it has.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import shlex
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import final

import daisy.v2 as daisy
from funlib.geometry import Roi

from scalenet_gp.kernels import keep_freed_memory, return_freed_memory
from scalenet_gp.pipelines.blockwise.records import record_cause
from scalenet_gp.pipelines.blockwise.task import BlockTask
from scalenet_gp.pipelines.process import file_lock
from scalenet_gp.volumes import UnwritableDataError

__all__ = ["attempt_block", "claim_device", "run_worker", "worker_starter"]

_LANES = 3
"""Threads: one reads, one computes, one writes."""


def worker_starter(
    task: BlockTask, stage: str, launcher: str = "", devices: Sequence[str] = (), threads: int | None = None
) -> Callable[[], None]:
    """Return the function that daisy calls in a new process, which then becomes a worker.

    The process becomes the launcher's, or the worker's where there is none, so that signals, the exit code and standard
    error pass unchanged. A launcher gets the worker's command as its last arguments. It has to end when the worker does
    (``srun``, ``bsub -I``), and to pass the environment on: daisy's variable DAISY_CONTEXT says where the scheduler is.

    Args:
        task: the task; its job file has been written.
        stage: name of the stage.
        launcher: command, quoted as in a shell.
        devices: names of torch devices, which the workers of a machine share.
        threads: threads that a worker computes with, unless OMP_NUM_THREADS says so; torch chooses if neither does.
    """
    command = [*shlex.split(launcher), sys.executable, "-m", task.worker, str(task.folder.job), "--stage", stage]
    if devices:
        command += ["--devices", ",".join(devices)]

    # a closure is sent to the process whole; a function of this module would have it import all of scalenet_gp first
    def start() -> None:
        import os

        if threads is not None:
            os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        os.execvp(command[0], command)

    return start


@contextmanager
def claim_device(devices: Sequence[str], folder: Path) -> Iterator[str]:
    """Yield the device that the fewest other workers of this machine have, and keep it while the context lasts.

    Locked files say which device is taken: see :func:`.file_lock`. A worker that is started in place of one that died
    gets the device of that one.

    Args:
        devices: names of torch devices, the same on all machines.
        folder: for the files; it is made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for turn, device in ((turn, device) for turn in itertools.count() for device in devices):
            with suppress(BlockingIOError):
                path = folder / f"{socket.gethostname()}.{device.replace(':', '')}.{turn}"
                stack.enter_context(file_lock(path))
                break
        yield device


def attempt_block(work: Callable[[Roi], None], block: daisy.Block, failed: Path) -> None:
    """Do a block. One that fails is marked as failed, and its cause recorded.

    Raises:
        UnwritableDataError: no other block could be written either.
        Exception: an error that is not due to the data.
    """
    try:
        work(block.write_roi)
    except Exception as error:
        block.status = daisy.BlockStatus.FAILED
        with suppress(OSError):  # the disk may be full
            record_cause(failed, block.block_id[1], error)
        if isinstance(error, UnwritableDataError) or not isinstance(error, (OSError, ValueError)):
            raise


def run_worker(
    open_task: Callable[[Path], BlockTask], arguments: Sequence[str] | None = None, *, of_tensors: bool = True
) -> int:
    """Work until there are no more blocks. A task's worker module calls this with the arguments of its process.

    Args:
        open_task: opens the task from its job file.
        arguments: of the process: the job file, ``--stage`` and ``--devices``; ``sys.argv`` unless given.
        of_tensors: True for blocks of tensors, which are faster if freed memory is kept, and take more: see
            :func:`.keep_freed_memory`; others return it: see :func:`.return_freed_memory`.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--devices", type=lambda text: text.split(","))
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the scheduler ends the others in good order
    keep_freed_memory() if of_tensors else return_freed_memory()
    logging.getLogger("gunpowder").setLevel(logging.CRITICAL)  # it logs every error that is raised too
    task = open_task(options.job)
    with ExitStack() as stack:
        device = None
        if options.devices:
            device = stack.enter_context(claim_device(options.devices, task.folder.devices))
        lanes = _Lanes(stack.enter_context(task.prepare(options.stage, device)), task.folder.failed)
        with ThreadPoolExecutor(_LANES) as pool:
            return max(pool.map(lambda _: lanes.run(), range(_LANES)))


@final
class _Lanes:
    """The work of the threads, which all end when one of them has to."""

    def __init__(self, work: Callable[[Roi], None], failed: Path) -> None:
        self._work = work
        self._failed = failed
        self._ending = Event()

    def run(self) -> int:
        client = daisy.Client()  # it belongs to the thread that makes it
        code = 0
        while not self._ending.is_set():
            try:
                with client.acquire_block() as block:
                    if block is None:
                        break
                    code = self._attempt(block)
            except (OSError, RuntimeError):  # of the connection: the scheduler is gone
                break
        return code

    def _attempt(self, block: daisy.Block) -> int:
        try:
            attempt_block(self._work, block, self._failed)
        except Exception as error:
            self._ending.set()
            with suppress(OSError):  # the log may be on the disk that is full
                traceback.print_exception(error)
            return os.EX_IOERR if isinstance(error, UnwritableDataError) else 1
        return 0
