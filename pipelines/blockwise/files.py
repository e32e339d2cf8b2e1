"""Files that blocks leave beside the volumes: rows of tables and the like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from scalenet_gp.serialization import atomic_write
from scalenet_gp.volumes import UnwritableDataError

__all__ = ["block_file"]


@contextmanager
def block_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that is written whole or not at all; a folder that it belongs in is not made.

    Raises:
        UnwritableDataError: it cannot be written, as on a full disk, so that other blocks need not be tried.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with block_file(Path(folder, "rows.bin")) as file:
        ...         _ = file.write(b"abc")
        ...     Path(folder, "rows.bin").read_bytes()
        b'abc'
    """
    try:
        with atomic_write(path) as beside, beside.open("wb") as file:
            yield file
    except OSError as error:
        # numpy counts the bytes that it could not write, and does not say why
        cause = error.strerror or f"{error}; the disk may be full"
        raise UnwritableDataError(f"{path} cannot be written: {cause}") from error
