"""Arrays and groups on disk: the one place that hides zarr 2 from zarr 3, and where stored data is decoded.

Everything written is of zarr format 2, as OME-Zarr 0.4 demands.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from numcodecs import Blosc

__all__ = [
    "StrPath",
    "UnreadableDataError",
    "create_array",
    "create_group",
    "group_attributes",
    "open_array",
    "read_box",
]

StrPath = str | os.PathLike[str]

_ZARR_2 = int(zarr.__version__.split(".")[0]) < 3


class UnreadableDataError(OSError):
    """A stored chunk cannot be decoded."""


class _Blosc(Blosc):
    """A blosc decoder that knows a truncated chunk when it sees one.

    The one of numcodecs believes the length in the chunk's header, and where the chunk is stored uncompressed returns
    whatever lies in memory behind it. Registered below, so that every array opened from here on is read with this one.
    """

    def decode(self, buf: Any, out: Any = None) -> Any:
        stored = np.frombuffer(buf, np.uint8)
        expected = int.from_bytes(stored[12:16].tobytes(), "little")
        if stored.size < 16 or stored.size < expected:
            raise ValueError(f"a blosc chunk is truncated after {stored.size} bytes")
        return super().decode(buf, out)


numcodecs.register_codec(_Blosc)


def group_attributes(path: StrPath) -> dict[str, Any]:
    """The attributes of the zarr group at ``path``.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: what is there is no zarr group, or its attributes are no JSON.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such multiscale group")
    try:
        attributes: dict[str, Any] = zarr.open_group(str(path), mode="r").attrs.asdict()
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path}: no readable zarr group ({error})") from error
    return attributes


def open_array(path: StrPath) -> Any:
    """Open the zarr array at ``path`` for reading.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: what is there is no zarr array.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such array")
    try:
        return zarr.open_array(str(path), mode="r")
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path}: no readable zarr array ({error})") from error


def create_group(path: StrPath, attributes: Mapping[str, Any]) -> None:
    """Create a group of zarr format 2 at ``path``, which must not exist."""
    version = {} if _ZARR_2 else {"zarr_format": 2}
    zarr.open_group(str(path), mode="w-", **version).attrs.update(attributes)


def create_array(path: StrPath, shape: Sequence[int], chunks: Sequence[int], dtype: np.dtype[Any]) -> Any:
    """Create a writable array of zeros at ``path``: zarr format 2, nested chunks, blosc-zstd."""
    layout = {"shape": tuple(shape), "chunks": tuple(chunks), "dtype": dtype, "fill_value": 0}
    compressor = _Blosc(cname="zstd", clevel=5, shuffle=Blosc.SHUFFLE)
    if _ZARR_2:
        return zarr.open_array(str(path), mode="w-", compressor=compressor, dimension_separator="/", **layout)
    encoding = {"name": "v2", "separator": "/"}
    return zarr.create_array(str(path), zarr_format=2, compressors=compressor, chunk_key_encoding=encoding, **layout)


def read_box(array: Any, path: StrPath, box: tuple[slice, ...]) -> np.ndarray:
    """Read a box of voxels.

    Args:
        array: from :func:`open_array`.
        path: of the array, for messages.
        box: one slice per axis of the array.

    Raises:
        UnreadableDataError: a chunk is truncated or cannot be decoded.
    """
    try:
        return np.asarray(array[box])
    except Exception as error:  # every codec has its own kind of complaint
        voxels = ", ".join(f"{part.start}:{part.stop}" for part in box)
        raise UnreadableDataError(f"{path}: voxels [{voxels}] cannot be read: {error}") from error
