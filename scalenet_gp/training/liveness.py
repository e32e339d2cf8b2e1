"""A watchdog: processes that train together notice when one of them has died."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

__all__ = ["watchdog"]

_EVERY = 2.0
"""Seconds from one heartbeat to the next."""


@contextmanager
def watchdog(rank: int, size: int, silence: float = 40.0) -> Iterator[None]:
    """Send heartbeats within the block, and end this process, with a message, if another one sends none.

    A process that waits for another one cannot tell a dead one from a busy one, on GPUs or if the other machine is
    gone. Heartbeats go through the store at ``MASTER_ADDR`` and ``MASTER_PORT`` where the processes met. A thread sends
    them, so that they do not stop while a process computes, reads or writes.

    Args:
        rank: the number of this process, from 0.
        size: the number of processes.
        silence: seconds without a heartbeat after which a process counts as dead.
    """
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(rank, size, silence, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(rank: int, size: int, silence: float, over: threading.Event) -> None:
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    me = f"rank {rank} of {size}"
    others = [other for other in range(size) if other != rank]
    heard = {other: (b"", time.monotonic()) for other in others}
    beat = 0
    try:
        # a connection of its own: that of the process is busy while the process waits
        store = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=silence / 2))  # type: ignore[attr-defined]
        while not over.wait(_EVERY):
            beat += 1
            store.set(_key(rank), str(beat))
            for other in others:
                sign = store.get(_key(other)) if store.check([_key(other)]) else b""
                if sign != heard[other][0]:
                    heard[other] = sign, time.monotonic()
                elif time.monotonic() - heard[other][1] > silence:
                    _end(
                        f"{me} ends: rank {other} has given no sign of life for {silence:g} s; it was killed or has "
                        "failed, or its machine cannot be reached"
                    )
    except RuntimeError as error:
        if not over.wait(_EVERY):  # otherwise the others have finished, and this process is about to
            _end(f"{me} ends: the process at {host}:{port}, where all have met, has gone ({error})")


def _key(rank: int) -> str:
    return f"sign of life/{rank}"


def _end(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
    os._exit(1)  # no exception reaches a main thread that waits in the network or on a GPU
