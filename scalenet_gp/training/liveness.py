"""Processes that know of each other whether they are still there."""

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
"""Seconds from one sign of life to the next."""


@contextmanager
def watchdog(rank: int, size: int, silence: float = 40.0) -> Iterator[None]:
    """Give signs of life meanwhile, and end this process, with a message, when another one gives none.

    Who waits for a process that was killed would wait as long as for one that is busy: on GPUs, or when its machine is
    gone, nothing else tells the two apart. The signs go through the store at ``MASTER_ADDR`` and ``MASTER_PORT`` where
    the processes met, from a thread, so that a process which computes, reads or writes gives them too.

    Args:
        rank: which process this is, from 0.
        size: how many there are.
        silence: after how many seconds without a sign a process counts as gone.
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
        # a connection of its own: the process's would be busy while that waits for something
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
        if not over.wait(_EVERY):  # or the others have done their work and gone, and so will this one
            _end(f"{me} ends: the process at {host}:{port}, where all have met, has gone ({error})")


def _key(rank: int) -> str:
    return f"sign of life/{rank}"


def _end(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
    os._exit(1)  # no exception would come through to a main thread that waits in the network or on a GPU
