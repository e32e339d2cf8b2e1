"""Worker processes that make numbered batches ahead, in order."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, final

import torch
from gunpowder import Batch, BatchProvider
from torch.utils.data import DataLoader, Sampler

from scalenet_gp.errors import WorkerFaultError
from scalenet_gp.nodes.prefetch.seeded_batches import SeededBatches
from scalenet_gp.nodes.prefetch.worker_dataset import PARENTS_SIGNALS, Failure, WorkerDataset

__all__ = ["BatchWorkers"]

_LOOK_EVERY = 1.0
"""Seconds between looks at the workers while a batch is awaited."""

_GRACE = 5.0
"""Seconds that workers have to end when they are told to."""

_HINTS = {
    signal.SIGKILL: " (the system does so when memory runs out)",
    signal.SIGBUS: " (shared memory, /dev/shm, may be full)",
}


@final
class BatchWorkers:
    """Makes the batches from number ``first`` on in worker processes, by a DataLoader of torch.

    Args:
        batches: what to make.
        first: the number of the batch that :meth:`next` returns first.
        workers: how many processes.
        prefetch_factor: how many batches each of them is ahead at most.
        start_method: "fork", "forkserver" or "spawn".

    Raises:
        TypeError: a node cannot be pickled, as every start method but "fork" needs.
        ChildProcessError: a worker died at once.
    """

    def __init__(
        self, batches: SeededBatches, first: int, workers: int, prefetch_factor: int, start_method: str
    ) -> None:
        self.batches = batches
        self._next = first
        self._waiting = False
        self._work = WorkerDataset(batches, workers)
        loader = DataLoader(
            self._work,
            batch_size=None,
            sampler=_NumbersFrom(first),
            num_workers=workers,
            timeout=_LOOK_EVERY,
            worker_init_fn=self._work.begin,
            multiprocessing_context=start_method,
            generator=torch.Generator(),  # or it would draw from the one that is the trainer's
            prefetch_factor=prefetch_factor,
            persistent_workers=True,
        )
        others = multiprocessing.active_children()
        with _starting(batches.provider, start_method), _sheltering(start_method):
            self._iterator: Any = iter(loader)
        self._processes = [process for process in multiprocessing.active_children() if process not in others]
        # Python, when it ends, would send SIGTERM to those that were not closed and wait for them for ever
        self._kill = Finalize(self, _kill, [self._processes], exitpriority=0)
        self._undo_deferring = self._defer_deaths()
        if len(self._processes) < workers:
            self.close()
            raise ChildProcessError(f"{workers - len(self._processes)} of {workers} workers died as they were started")

    def next(self, timeout: float) -> Batch:
        """The next batch.

        Args:
            timeout: for how many seconds to wait for it.

        Raises:
            ChildProcessError: a node raised an error, or a worker has died. It is a :class:`.WorkerFaultError` if the
                error is a programming error.
            TimeoutError: it did not come in time.
        """
        begun = time.monotonic()
        while True:
            self._check_alive()
            asked = time.monotonic()
            try:
                self._waiting = True
                made = next(self._iterator)
                break
            except Exception:  # what nodes raise comes as a Failure; this is the clock's tick, or a worker died
                self._waiting = False  # or the handler of SIGCHLD would raise here, instead of what is said below
                tick = time.monotonic() - asked > 0.9 * _LOOK_EVERY
                if not tick:
                    ending = wait([process.sentinel for process in self._processes], timeout=_LOOK_EVERY)
                    for process in self._processes:
                        if process.sentinel in ending:
                            process.join()  # its files are closed already, its exit code comes a moment later
                self._check_alive()
                if not tick:
                    raise
            finally:
                self._waiting = False
            if time.monotonic() - begun > timeout:
                raise TimeoutError(self._describe_delay(timeout))
        if isinstance(made, Failure):
            raise (ChildProcessError if made.mendable else WorkerFaultError)(made.text)
        self._next += 1
        return made.unpack()

    def close(self) -> None:
        """End the workers. Batches in the making have five seconds to be finished."""
        # DataLoader waits so long for one worker after the other, and then sends them SIGTERM, which they ignore
        deadline = threading.Timer(_GRACE, self._kill)
        deadline.start()
        try:
            self._iterator._shutdown_workers()  # by name, since tracebacks may keep the iterator from being deleted
        finally:
            deadline.cancel()
            self._kill()
            for process in self._processes:
                process.join()
            self._undo_deferring()

    def _check_alive(self) -> None:
        for process in self._processes:
            if process.exitcode is None:
                continue
            end = _end(process.exitcode)
            for state in self._work.states():
                if state.pid == process.pid:
                    raise ChildProcessError(f"{state} {end} while {state.doing}{self._request_of(state.batch)}")
            raise ChildProcessError(
                f"a worker (pid {process.pid}) {end} while starting; what it printed may say why. Scripts need `if "
                "__name__ == '__main__':` around what they do, unless workers are forked"
            )

    def _describe_delay(self, timeout: float) -> str:
        states = self._work.states()
        concerned = [state for state in states if state.batch == self._next] or states
        workers = ", ".join(f"{state} is {state.doing}" for state in concerned)
        return f"batch {self._next} has not come within {timeout:g} s: {workers}{self._request_of(self._next)}"

    def _request_of(self, batch: int | None) -> str:
        return "" if batch is None else f"\nIts request: {self.batches.request(batch)}"

    def _defer_deaths(self) -> Callable[[], None]:
        """Let :meth:`next` report that a worker died; returns what undoes this.

        DataLoader raises it in its handler of SIGCHLD, between any two lines of the main thread: downstream, say in the
        midst of a checkpoint.
        """
        loaders_handler = signal.getsignal(signal.SIGCHLD)
        if threading.current_thread() is not threading.main_thread() or not callable(loaders_handler):
            return lambda: None

        def handler(number: int, frame: Any) -> None:
            try:
                loaders_handler(number, frame)
            except RuntimeError:
                # somebody else's worker, or a broken connection for which next would wait in vain
                if self._waiting or all(process.is_alive() for process in self._processes):
                    raise

        def undo() -> None:
            if signal.getsignal(signal.SIGCHLD) is handler:
                signal.signal(signal.SIGCHLD, loaders_handler)

        signal.signal(signal.SIGCHLD, handler)
        return undo


class _NumbersFrom(Sampler[int]):
    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first)


def _end(exitcode: int) -> str:
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    killer = signal.Signals(-exitcode)
    return f"was killed by {killer.name}{_HINTS.get(killer, '')}"


def _kill(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):  # it has just ended, and the other thread took note of that
            process.kill()


@contextmanager
def _sheltering(start_method: str) -> Iterator[None]:
    """Keep the parent's signals from processes that are started meanwhile, also before they can ignore them.

    They inherit that the signals are blocked. This process gets what arrives meanwhile afterwards.
    """
    if start_method == "forkserver":  # all that this process ever starts by the server would inherit it
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS_SIGNALS)
    try:
        if start_method == "spawn":
            resource_tracker.ensure_running()  # it shall live on too, but starting it may unblock some of them
            signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _starting(provider: BatchProvider, start_method: str) -> Iterator[None]:
    """Name the node that keeps workers from being started.

    Raises:
        TypeError: a node cannot be pickled.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Got pickle error")  # raised below
            # Python 3.12 on: workers are forked only where nothing is known to break in them
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            yield
    except Exception as error:
        for node in _upstream_first(provider):
            if (reason := _why_unpicklable(node)) is not None:
                raise TypeError(
                    f"{node.name()} cannot be sent to a worker that is started by {start_method!r}: {reason}. "
                    "start_method='fork' sends nothing, if workers are started before this process reads volumes"
                ) from error
        raise


def _upstream_first(provider: BatchProvider) -> Iterator[BatchProvider]:
    for upstream in provider.get_upstream_providers():
        yield from _upstream_first(upstream)
    yield provider


def _why_unpicklable(node: BatchProvider) -> Exception | None:
    try:
        _Alone(node).dump(node)
    except Exception as error:
        return error
    return None


class _Alone(pickle.Pickler):
    """Pickles one node without the others that it knows of."""

    def __init__(self, node: BatchProvider) -> None:
        super().__init__(BytesIO())
        self.node = node

    def persistent_id(self, obj: Any) -> str | None:
        return obj.name() if isinstance(obj, BatchProvider) and obj is not self.node else None
