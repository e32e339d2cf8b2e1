"""A folder that one process at a time writes to."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

__all__ = ["folder_lock"]

_NAME = ".lock"
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
_held: set[int] = set()  # descriptors


@contextmanager
def folder_lock(folder: Path, doing: str) -> Iterator[None]:
    """Keep everybody else who asks out of a folder, which is made if there is none; reading it needs no lock.

    The lock is the kernel's, on the file ``.lock`` (``flock``): it is free at once when this process ends, however that
    happens, also if processes that it forked live on. Other machines see it where the folder's file system shares
    locks, as NFS does, and Lustre if it is mounted with ``flock``. Afterwards the file is gone, and so is the folder if
    it is new and empty.

    Args:
        folder: what to lock.
        doing: what is done there, for the message: "being trained".

    Raises:
        BlockingIOError: somebody has locked it; the message says who and since when.
        OSError: the folder or the file cannot be made.

    Warns:
        RuntimeWarning: the file system has no locks; nobody is kept out.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _NAME
    descriptor = _lock(path, f"{folder} is {doing}")
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # not in a forked child, where the number may mean another file by now
            path.unlink(missing_ok=True)  # before the lock is free, or it might be somebody else's
            _held.remove(descriptor)
            os.close(descriptor)
            if new:
                with suppress(OSError):  # it is not empty
                    folder.rmdir()


def _lock(path: Path, taken: str) -> int:
    """The descriptor whose closing ends the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _try(descriptor, path, taken)
            if _is_still(path, descriptor):
                os.truncate(descriptor, 0)
                os.write(descriptor, _whoami().encode())
                os.fsync(descriptor)  # other machines read it meanwhile
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has removed it between the two calls; whoever comes now makes another one


def _try(descriptor: int, path: Path, taken: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # network file systems answer with either
        holder = os.read(descriptor, 1000).decode() or "another process"
        raise BlockingIOError(f"{taken} by {holder}; wait for its end, or choose another folder") from None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        message = f"{path}: the file system has no locks ({error.strerror}); nothing keeps others out of the folder"
        warnings.warn(message, RuntimeWarning, stacklevel=5)  # where the folder is locked


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _whoami() -> str:
    now = datetime.now().astimezone()
    return f"pid {os.getpid()} on host {socket.gethostname()} since {now:%Y-%m-%d %H:%M:%S %z}"


def _let_go() -> None:
    """In a forked child, which may outlive its parent: a lock is free once no process holds its file open."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)
