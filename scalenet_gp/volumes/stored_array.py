"""An array on disk or behind a URL, whose voxels are read and written through tensorstore."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, final

import numpy as np
import tensorstore as ts

from scalenet_gp.errors import ArgumentError
from scalenet_gp.volumes.location import begin_bulk_reads, tensorstore_context

__all__ = ["NO_CACHE", "ChunkCache", "StoredArray", "UnreadableDataError", "UnwritableDataError"]


class UnreadableDataError(OSError):
    """A stored chunk cannot be read or decoded."""


class UnwritableDataError(OSError):
    """A chunk cannot be stored: the disk is full, say."""


@final
class ChunkCache:
    """Keep the decoded chunks that were used last in memory, for all volumes opened with this cache.

    Kept chunks are not compared with the stored ones again. Every process has its own chunks, up to the limit: in
    another process the cache arrives empty.

    Args:
        limit: bytes, in every process.

    Raises:
        ArgumentError: ``limit`` is negative.

    Example:
        >>> ChunkCache(2**28)
        ChunkCache(268435456)
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ArgumentError(f"a chunk cache of {limit} bytes: it has to be at least 0")
        self.limit = limit

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def __repr__(self) -> str:
        return f"ChunkCache({self.limit})"

    @cached_property
    def context(self) -> ts.Context:
        """The settings for tensorstore."""
        return tensorstore_context(self.limit)


NO_CACHE = ChunkCache(0)
"""Keeps nothing."""


@final
@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array that was opened: see :func:`open_array`.

    Nothing is read before the first voxel is asked for, in each process by itself: an array can be sent to another
    process at any time, and goes into a forked one as long as nothing was read before.

    Args:
        path: or URL.
        shape: voxels; the axes of N5, which stores x, y, z, are served in reverse order: z, y, x.
        chunks: voxels that are stored together, along the same axes.
        dtype: of the voxels, in native byte order.
        cache: that keeps decoded chunks.

    Example:
        >>> import tempfile
        >>> from scalenet_gp.volumes import create_array, open_array
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = create_array(f"{folder}/ids", (4, 4), (2, 2), np.dtype(np.uint64))
        ...     array = open_array(f"{folder}/ids")
        ...     array.write((slice(0, 1), slice(1, 3)), np.array([[7, 9]], np.uint64))
        ...     array[0:2, 0:3].tolist()
        [[0, 7, 9], [0, 0, 0]]
    """

    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    cache: ChunkCache
    _specification: dict[str, Any] = field(repr=False)
    _axes: tuple[int, ...] = field(repr=False)  # which stored axis each one is
    _fixed: tuple[tuple[int, int], ...] = field(repr=False, default=())  # stored axes of which one index is read

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def at(self, selected: Mapping[int, int]) -> StoredArray:
        """Return the array at one index (value) of some of its axes (key), which it then lacks."""
        kept = [axis for axis in range(self.ndim) if axis not in selected]
        return replace(
            self,
            shape=tuple(self.shape[axis] for axis in kept),
            chunks=tuple(self.chunks[axis] for axis in kept),
            _axes=tuple(self._axes[axis] for axis in kept),
            _fixed=self._fixed + tuple((self._axes[axis], index) for axis, index in selected.items()),
        )

    def start(self, box: Sequence[slice]) -> Callable[[], np.ndarray]:
        """Start to read a box of voxels, one slice per axis. Call the returned function to wait for them.

        Raises:
            UnreadableDataError: a chunk cannot be read, is truncated, or cannot be decoded; now or then.
            RuntimeError: see :func:`~scalenet_gp.volumes.bulk_reads_begun`.
        """
        begin_bulk_reads(self.path)
        place = self._place(box)

        def unreadable(error: Exception) -> UnreadableDataError:
            return UnreadableDataError(f"{self.path}: voxels {place} cannot be read: {error}")

        def finish() -> np.ndarray:
            try:
                return np.asarray(future.result())
            except Exception as error:  # every codec has its own kind of complaint
                raise unreadable(error) from error

        try:
            future = place.of(self._store).read(order="C")
        except Exception as error:
            raise unreadable(error) from error
        return finish

    def write(self, box: Sequence[slice], data: np.ndarray) -> None:
        """Store a box of voxels, one slice per axis; they are on the disk when this returns.

        A chunk is replaced as a whole: a reader meanwhile, or after this process was killed, finds the old
        one or the new one. Several processes can write at once: one that fills a chunk in part merges it with what is
        stored. A chunk of zeros takes no file.

        Args:
            box: one slice per axis.
            data: of the shape of the box and the dtype of the array.

        Raises:
            UnwritableDataError: a chunk cannot be stored, or one that is filled in part cannot be decoded.
            RuntimeError: see :func:`~scalenet_gp.volumes.bulk_reads_begun`.
        """
        begin_bulk_reads(self.path)
        place = self._place(box)
        try:
            place.of(self._writable_store).write(np.ascontiguousarray(data)).result()
        except Exception as error:
            raise UnwritableDataError(f"{self.path}: voxels {place} cannot be written: {error}") from error

    def __getitem__(self, box: slice | tuple[slice, ...]) -> np.ndarray:
        """Read the voxels of a box. Raises as :meth:`start`."""
        parts = box if isinstance(box, tuple) else (box,)
        return self.start(parts + (slice(None),) * (self.ndim - len(parts)))()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_store", "_writable_store")}

    @cached_property
    def _store(self) -> ts.TensorStore:
        return self._opened(self.cache)

    @cached_property
    def _writable_store(self) -> ts.TensorStore:
        # without a cache: what is merged with a chunk is what is stored now
        return self._opened(NO_CACHE, write=True)

    def _opened(self, cache: ChunkCache, write: bool = False) -> ts.TensorStore:
        store = ts.open(ts.Spec(self._specification), read=True, write=write, context=cache.context).result()
        return store[ts.d[:].translate_to[0]]  # precomputed volumes count voxels from their offset

    def _place(self, box: Sequence[slice]) -> _Place:
        parts = tuple(slice(*part.indices(length)[:2]) for part, length in zip(box, self.shape, strict=True))
        index = dict(zip(self._axes, parts, strict=True)) | dict(self._fixed)
        stored = sorted(self._axes)
        return _Place(
            parts, tuple(index[axis] for axis in sorted(index)), tuple(stored.index(axis) for axis in self._axes)
        )


@dataclass(frozen=True, slots=True)
class _Place:
    """A box of an array, and where it is stored."""

    box: tuple[slice, ...]
    index: tuple[slice | int, ...]
    order: tuple[int, ...]

    def of(self, store: ts.TensorStore) -> ts.TensorStore:
        """Return this part of the array, axes in the order of reading."""
        return store[self.index].transpose(self.order)

    def __str__(self) -> str:
        return f"[{', '.join(f'{part.start}:{part.stop}' for part in self.box)}]"
