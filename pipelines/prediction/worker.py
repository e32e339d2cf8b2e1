"""A worker process: takes blocks from the scheduler, and hands them back when they are on the disk.

``python -m scalenet_gp.pipelines.prediction.worker JOB`` with daisy's variable DAISY_CONTEXT in the environment.

Reading, computing and writing overlap: several threads take a block each, with a connection of their own, and while
one of them computes the others read and write. A block that fails is handed back as failed, with its cause noted beside
the job, and the next one is taken. What no other block would survive ends the process: a full disk with the exit code
74 (``EX_IOERR``), anything that is no fault of the data, such as a GPU that is gone, with 1. daisy gives the blocks of
a process that ends to others, and starts a new one. When the scheduler is gone, so is the process, after the blocks
that it has.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import final

import daisy.v2 as daisy
from funlib.geometry import Roi

from scalenet_gp.kernels import keep_freed_memory
from scalenet_gp.pipelines.prediction.block_work import BlockWork
from scalenet_gp.pipelines.prediction.coarser_levels import LevelWork
from scalenet_gp.pipelines.prediction.devices import claim_device
from scalenet_gp.pipelines.prediction.failures import record_cause
from scalenet_gp.pipelines.prediction.job import PredictionJob
from scalenet_gp.pipelines.prediction.prediction import Prediction
from scalenet_gp.volumes import UnwritableDataError

__all__ = ["attempt", "main", "ready"]

_LANES = 3
"""Threads: one to read, one to compute, one to write."""


@contextmanager
def ready(prediction: Prediction, level: int | None, device: str | None) -> Iterator[Callable[[Roi], None]]:
    """What does a block, world units, for as long as the context lasts.

    Args:
        prediction: the job; its volumes have been created.
        level: that the blocks are parts of; None if they are to be predicted.
        device: to predict on; see :meth:`.BlockWork.ready`.

    Raises:
        ValueError: there is no such device.
    """
    if level is None:
        with BlockWork.ready(prediction, device) as work:
            yield work
    else:
        yield LevelWork(prediction, level)


def attempt(work: Callable[[Roi], None], block: daisy.Block, failed: Path) -> None:
    """Do a block; if it cannot be done, have it marked as failed and the cause noted.

    Raises:
        UnwritableDataError: no other block could be written either.
        Exception: what is no fault of the data.
    """
    try:
        work(block.write_roi)
    except Exception as error:
        block.status = daisy.BlockStatus.FAILED
        with suppress(OSError):  # the disk may be full
            record_cause(failed, block.block_id[1], error)
        if isinstance(error, UnwritableDataError) or not isinstance(error, (OSError, ValueError)):
            raise


def main(arguments: list[str] | None = None) -> int:
    """Work until there are no more blocks.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="scalenet_gp.pipelines.prediction.worker")
    parser.add_argument("job", type=Path)
    parser.add_argument("--devices", type=lambda text: text.split(","))
    parser.add_argument("--level", type=int)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the scheduler ends the others in good order
    keep_freed_memory()
    logging.getLogger("gunpowder").setLevel(logging.CRITICAL)  # it logs every error that is raised too
    job = PredictionJob.read(options.job)
    with ExitStack() as stack:
        device = None
        if options.devices and options.level is None:
            device = stack.enter_context(claim_device(options.devices, job.partial / "devices"))
        lanes = _Lanes(stack.enter_context(ready(Prediction.open(job), options.level, device)), job)
        with ThreadPoolExecutor(_LANES) as pool:
            return max(pool.map(lambda _: lanes.run(), range(_LANES)))


@final
class _Lanes:
    """What the threads do, which all end when one of them has to."""

    def __init__(self, work: Callable[[Roi], None], job: PredictionJob) -> None:
        self._work = work
        self._failed = job.failed
        self._ending = Event()

    def run(self) -> int:
        client = daisy.Client()  # it belongs to the thread that makes it
        code = 0
        while not self._ending.is_set():
            try:
                with client.acquire_block() as block:
                    if block is None:
                        break
                    code = self._code_of(block)
            except (OSError, RuntimeError):  # of the connection: there is no scheduler any more
                break
        return code

    def _code_of(self, block: daisy.Block) -> int:
        try:
            attempt(self._work, block, self._failed)
        except Exception as error:
            self._ending.set()
            with suppress(OSError):  # the log may be on the disk that is full
                traceback.print_exception(error)
            return os.EX_IOERR if isinstance(error, UnwritableDataError) else 1
        return 0


if __name__ == "__main__":
    # without the end of the interpreter, which would give another code where the log cannot be written
    os._exit(main())
