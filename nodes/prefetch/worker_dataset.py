"""The dataset that worker processes read: it makes batches and records which one each worker is at."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import final

import torch
from gunpowder.nodes.batch_provider import BatchRequestError
from torch.utils.data import Dataset

from scalenet_gp.errors import ScaleNetError
from scalenet_gp.nodes.prefetch.batch_transport import PackedBatch
from scalenet_gp.nodes.prefetch.seeded_batches import SeededBatches

__all__ = ["PARENTS_SIGNALS", "Failure", "WorkerDataset", "WorkerState"]

PARENTS_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that end a run, which workers ignore. Schedulers and terminals send them to all processes of a job, but the
parent decides when it needs no more batches."""

_NONE = -1

_MENDABLE = (ScaleNetError, OSError, MemoryError, AssertionError)
"""Errors that a user can mend. gunpowder asserts what a request has to be."""


@final
@dataclass(frozen=True)
class Failure:
    """The answer in place of a batch that could not be made.

    Attributes:
        text: worker, error, request and traceback.
        mendable: True if a user can mend the error; it is a programming error otherwise.
    """

    text: str
    mendable: bool


@final
@dataclass(frozen=True)
class WorkerState:
    """The state of a worker: the number of the batch that it is making, or None, and for how many seconds.

    ``pid`` is None until the worker is ready.
    """

    number: int
    pid: int | None
    batch: int | None
    seconds: float

    def __str__(self) -> str:
        return f"worker {self.number}" if self.pid is None else f"worker {self.number} (pid {self.pid})"

    @property
    def doing(self) -> str:
        """For messages: what follows "is" or "while"."""
        if self.pid is None:
            return "starting"
        return "waiting for work" if self.batch is None else f"making batch {self.batch} (for {self.seconds:.1f} s)"


@final
class WorkerDataset(Dataset[PackedBatch | Failure]):
    """The batches as the dataset of a DataLoader: item k is batch k, packed, or a :class:`Failure`.

    Args:
        batches: what to make.
        workers: how many processes share the work.
    """

    def __init__(self, batches: SeededBatches, workers: int) -> None:
        self.batches = batches
        # per worker: its process, its batch and when it began with it; shared memory, as a dead worker tells nothing
        self._record = torch.tensor([(_NONE, _NONE, 0)] * workers).share_memory_()

    def begin(self, number: int) -> None:
        """Called once in each worker, before its first batch, with the worker's number."""
        self._number = number
        for ignored in PARENTS_SIGNALS:
            signal.signal(ignored, signal.SIG_IGN)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        self._note(number, _NONE)

    def __getitem__(self, index: int) -> PackedBatch | Failure:
        self._note(number := self._number, index)
        try:
            return PackedBatch.pack(self.batches[index])
        except Exception as error:
            return self._failure(error, number, index)
        finally:
            self._note(number, _NONE)

    def states(self) -> list[WorkerState]:
        """Return the state of each worker."""
        now = time.monotonic_ns()
        return [
            WorkerState(
                number,
                pid=None if pid == _NONE else pid,
                batch=None if batch == _NONE else batch,
                seconds=(now - since) / 1e9,
            )
            for number, (pid, batch, since) in enumerate(self._record.tolist())
        ]

    def _note(self, number: int, batch: int) -> None:
        self._record.numpy()[number] = os.getpid(), batch, time.monotonic_ns()

    def _failure(self, error: BaseException, number: int, index: int) -> Failure:
        node = ""
        while isinstance(error, BatchRequestError) and error.__context__ is not None:
            node, error = f" in {error.provider.name()}", error.__context__
        lines = "".join(traceback.format_exception(error))
        text = (
            f"worker {number} (pid {os.getpid()}) failed at batch {index}{node}: {type(error).__name__}: {error}\n"
            f"Its request: {self.batches.request(index)}\n{lines}"
        )
        return Failure(text, isinstance(error, _MENDABLE))


def _end_with_parent() -> None:
    """DataLoader's workers look for their parent between batches only, and some wait on each other for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
