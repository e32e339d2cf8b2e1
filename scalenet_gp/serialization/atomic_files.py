"""Atomic writes: a file is written whole, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_write", "naming_full_disk"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to, which replaces ``path`` once everything is on the disk, or vanishes.

    At the end of the context the file exists under its name, even if the machine loses power.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "notes.txt")
        ...     with atomic_write(path) as beside:
        ...         _ = beside.write_text("whole")
        ...     path.read_text()
        'whole'
    """
    beside = path.with_suffix(".partial")
    if beside.is_dir():  # the unfinished `cells` that a table `cells.csv` belongs to, for example
        beside = path.with_name(f"{path.name}.partial")
    try:
        with naming_full_disk(path):
            yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Give errors of a full disk the path that was to be written, which they do not tell.

    Raises:
        OSError: as in the context.

    Example:
        >>> try:
        ...     with naming_full_disk(Path("volume.zarr")):
        ...         raise OSError(errno.ENOSPC, "No space left on device")
        ... except OSError as error:
        ...     print(error.strerror, error.filename)
        No space left on device volume.zarr
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_ROOM:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _flush_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    if os.name != "posix":
        return  # folders cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that do not flush folders
            raise
    finally:
        os.close(descriptor)
