"""Which of a machine's devices a worker takes: the one that the fewest others have."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["claim_device"]


@contextmanager
def claim_device(devices: Sequence[str], folder: Path) -> Iterator[str]:
    """A device that nobody else on this machine has, or as few as possible, for as long as the context lasts.

    Who has what is known by the kernel's locks of empty files (``flock``), which are free when a process ends, however
    that happens; so one that is started in place of another gets its device.

    Args:
        devices: names of torch devices; the same on all machines.
        folder: for the files; it is made if it is missing.

    Raises:
        OSError: the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for turn, device in ((turn, device) for turn in itertools.count() for device in devices):
        path = folder / f"{socket.gethostname()}.{device.replace(':', '')}.{turn}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # network file systems answer with either
            os.close(descriptor)
            continue
        try:
            yield device
        finally:
            os.close(descriptor)
        return
