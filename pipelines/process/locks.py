"""Locks of files and folders that one process at a time may have."""

from __future__ import annotations

import errno
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["file_lock", "folder_lock"]

_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Lock a file, which is made for that and removed afterwards.

    The lock is the kernel's (``flock``, by the package filelock). It is free at once when this process ends, however
    that happens, also if processes that it forked live on. Other machines see it where the file system shares locks, as
    NFS does, and Lustre if it is mounted with ``flock``.

    Args:
        path: the file; its folder exists.

    Raises:
        BlockingIOError: another process has the lock; the message says which one and since when.
        OSError: the file cannot be made.

    Warns:
        RuntimeWarning: the file system has no locks; nobody is kept out.
    """
    # without the package's own fallback, a file that a killed process would leave locked
    lock = FileLock(path, mode=0o666, blocking=False, fallback_to_soft=False)
    owner = os.getpid()
    while True:
        try:
            lock.acquire()
        except Timeout:
            try:
                holder = path.read_text(encoding="utf-8") or "another process"
            except FileNotFoundError:  # its holder has removed it since it was opened
                continue
            raise BlockingIOError(holder) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            message = f"{path}: the file system has no locks ({error.strerror}); nothing keeps others out of the folder"
            warnings.warn(message, RuntimeWarning, stacklevel=5)  # where the folder is locked
        else:
            path.write_text(_whoami(), encoding="utf-8")
        break
    try:
        yield
    finally:
        if os.getpid() == owner:  # a forked child does not have the lock
            path.unlink(missing_ok=True)  # before the lock is free: then the file may be another process's
            lock.release()


@contextmanager
def folder_lock(folder: Path, doing: str) -> Iterator[None]:
    """Lock a folder for writing by its file ``.lock``; reading needs no lock. See :func:`file_lock`.

    The folder is made if it is missing, and removed afterwards if it is new and empty.

    Args:
        folder: the folder.
        doing: the activity, for the message, such as "being trained".

    Raises:
        BlockingIOError: another process has locked it; the message says which one and since when.
        OSError: the folder or the file cannot be made.

    Warns:
        RuntimeWarning: the file system has no locks; nobody is kept out.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    owner = os.getpid()
    lock = file_lock(folder / ".lock")
    try:
        lock.__enter__()
    except BlockingIOError as error:
        message = f"{folder} is {doing} by {error}; wait for its end, or choose another folder"
        raise BlockingIOError(message) from None
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
        if new and os.getpid() == owner:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _whoami() -> str:
    now = datetime.now().astimezone()
    return f"pid {os.getpid()} on host {socket.gethostname()} since {now:%Y-%m-%d %H:%M:%S %z}"
