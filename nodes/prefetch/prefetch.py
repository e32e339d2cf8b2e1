"""Batches made ahead by worker processes, the same ones whatever their number."""

from __future__ import annotations

import multiprocessing
import secrets
import sys
from operator import index
from typing import Literal

from gunpowder import Batch, BatchFilter, BatchProvider, BatchRequest, PreCache, Reject
from gunpowder.profiling import Timing

from scalenet_gp.errors import ArgumentError, PipelineError
from scalenet_gp.nodes.prefetch.batch_workers import BatchWorkers
from scalenet_gp.nodes.prefetch.seeded_batches import SeededBatches
from scalenet_gp.nodes.requests import seed_of
from scalenet_gp.volumes import bulk_reads_begun

__all__ = ["Prefetch"]

StartMethod = Literal["fork", "forkserver", "spawn"]


class Prefetch(BatchFilter):
    """Make the batches of a run ahead in worker processes, in order, each from the run's seed and its number alone.

    It is the most downstream node of the data, before ``Train``. Batch k is the same to the bit for any number of
    workers, with every start method, and whether the run began at 0 or at k: the chain gets a request whose seed is
    :func:`.batch_seed` of (seed, k). That holds for nodes that draw from the seed of their request, as ours do, or from
    the global generators of Python, numpy and torch. A node that remembers the batch before makes batches that depend
    on the workers.

    Batches are made for the request that came last. If another one comes (other arrays or ROIs), the workers are
    started anew for it, and the numbering continues. The seed of the requests does not matter if ``seed`` is given.
    Otherwise it is the run's, and has to stay the same. In workers, torch computes on one thread.

    Processes that train together have a ``Prefetch`` each, with the same seed and the same numbers. Each makes its own
    samples of batch k, as the :class:`.Stack` upstream says.

    A DataLoader of torch runs the workers and hands arrays over in shared memory. Workers end with the pipeline, with
    the first error, and with this process, however it ends. They ignore SIGINT, SIGTERM and SIGUSR1, so that this
    process still gets its batches when a terminal or a scheduler signals all processes of a job ("forkserver" does
    without that: the server itself dies).

    Args:
        workers: the number of processes. With 0, every batch is made in this process when it is requested.
        seed: the seed of the run, at least 0. If None, the seed of the requests, or, if they have none, a random one.
        first: the number of the first batch.
        prefetch_factor: the number of batches that each worker is ahead at most.
        timeout: seconds to wait for a batch before its worker counts as hanging. Starting a worker counts, too: it
            takes seconds, and longer if the chain holds much data in memory.
        start_method: the way to start workers. "spawn" and "forkserver" pickle the chain; their workers take seconds to
            start. "fork" does not work once this process has read volumes. If None: "fork" on Linux where it works,
            else "spawn".

    Raises:
        ArgumentError: an argument is out of its range.
        PipelineError: when the pipeline is built: a ``Reject`` or ``PreCache`` of gunpowder is upstream. For a request:
            it has another seed than those before.
        RuntimeError: for a request: ``start_method`` is "fork", and this process has read volumes.
        TypeError: for a request: a node cannot be pickled.
        ChildProcessError: for a request: a node raised an error in a worker, the message holds its traceback; or a
            worker died. The message names the worker, the number and the request of the batch.
        TimeoutError: for a request: a worker hangs; named likewise.

    Example:
        >>> Prefetch(workers=4, seed=0).next_batch
        0
    """

    def __init__(
        self,
        workers: int = 0,
        *,
        seed: int | None = None,
        first: int = 0,
        prefetch_factor: int = 2,
        timeout: float = 600.0,
        start_method: StartMethod | None = None,
    ) -> None:
        self.workers = _at_least(0, "workers", workers)
        self.first = _at_least(0, "first", first)
        self.prefetch_factor = _at_least(1, "prefetch_factor", prefetch_factor)
        if not timeout > 0:
            raise ArgumentError(f"timeout is {timeout!r} s; it has to be above 0")
        self.timeout = timeout
        known = multiprocessing.get_all_start_methods()
        if start_method is not None and start_method not in known:
            raise ArgumentError(f"start_method is {start_method!r}; this system knows {', '.join(map(repr, known))}")
        self.start_method = start_method
        self._given_seed = None if seed is None else _at_least(0, "seed", seed)
        self._seed = self._given_seed
        self._requested_seed: int | None = None
        self._next = self.first
        self._running: BatchWorkers | None = None

    @property
    def seed(self) -> int | None:
        """The run's seed; None before the first request, if it was not given."""
        return self._seed

    @property
    def next_batch(self) -> int:
        """The number of the batch that the next request gets. Set it, for example, to resume a run."""
        return self._next

    @next_batch.setter
    def next_batch(self, number: int) -> None:
        number = _at_least(0, "next_batch", number)
        if number != self._next:
            self._close()
        self._next = number

    def setup(self) -> None:
        """Announce nothing new; refuse nodes upstream that do not work with seeds."""
        _refuse_unseedable(self)

    def teardown(self) -> None:
        self._close()
        self._seed, self._next = self._given_seed, self.first

    def provide(self, request: BatchRequest) -> Batch:
        timing = Timing(self)
        timing.start()
        batches = SeededBatches(self.get_upstream_provider(), request, self._seed_for(request))
        batch = self._from_workers(batches) if self.workers else batches[self._next]
        self._next += 1
        timing.stop()
        batch.profiling_stats.add(timing)
        return batch

    def _from_workers(self, batches: SeededBatches) -> Batch:
        if self._running is not None and self._running.batches != batches:
            self._close()
        if self._running is None:
            method = self._usable_start_method()
            self._running = BatchWorkers(batches, self._next, self.workers, self.prefetch_factor, method)
        try:
            return self._running.next(self.timeout)
        except BaseException:
            self._close()
            raise

    def _seed_for(self, request: BatchRequest) -> int:
        if self._given_seed is not None:
            return self._given_seed
        requested = seed_of(request)
        if self._seed is None:
            self._requested_seed = requested
            self._seed = secrets.randbits(32) if requested is None else requested
        elif requested != self._requested_seed:
            raise PipelineError(
                f"the request arrives with the seed {requested}, those before had {self._requested_seed}: batches made "
                "ahead know no later seeds. Give Prefetch the seed of the run, or all requests the same"
            )
        return self._seed

    def _usable_start_method(self) -> StartMethod:
        begun = bulk_reads_begun()
        if self.start_method == "fork" and begun:
            raise RuntimeError(
                "start_method is 'fork', but this process has read volumes, after which tensorstore aborts in a forked "
                "process; leave start_method out, or request the first batch before anything is read"
            )
        if self.start_method is not None:
            return self.start_method
        return "fork" if sys.platform.startswith("linux") and not begun else "spawn"

    def _close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.close()


def _refuse_unseedable(node: BatchProvider) -> None:
    """Refuse gunpowder's nodes that answer a request with a seed by one sample, again and again.

    Raises:
        PipelineError: such a node is upstream of ``node``.
    """
    for upstream in node.get_upstream_providers():
        if isinstance(upstream, Reject):
            raise PipelineError(
                "gunpowder's Reject is upstream of Prefetch, whose requests have seeds: it would draw one rejected "
                "sample for ever. Use scalenet_gp.nodes.Reject, which takes the same arguments"
            )
        if isinstance(upstream, PreCache):
            raise PipelineError(
                "gunpowder's PreCache is upstream of Prefetch, whose requests have seeds: it would fill its cache with "
                "one batch. Leave it out; Prefetch(workers=…) makes batches ahead"
            )
        _refuse_unseedable(upstream)


def _at_least(least: int, name: str, value: int) -> int:
    if index(value) < least:
        raise ArgumentError(f"{name} is {value!r}; it has to be at least {least}")
    return index(value)
