"""Write a volume as OME-Zarr 0.4: block by block, then its coarser levels, and only a finished one under its name."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import numpy as np
from numpy.typing import DTypeLike

from scalenet_gp.nodes.volumes.metadata import Level
from scalenet_gp.nodes.volumes.ome_zarr import multiscale_attributes
from scalenet_gp.nodes.volumes.reduction import block_majority, block_mean
from scalenet_gp.nodes.volumes.storage import StoredArray, StrPath, create_array, create_group, open_array
from scalenet_gp.world import Length, exact_size, format_size

__all__ = ["MultiscaleWriter"]

_AXES = {2: ("y", "x"), 3: ("z", "y", "x")}
_CHUNK = {2: 512, 3: 64}
_RESERVED = ("multiscales", "omero")


@final
class MultiscaleWriter:
    """Writes one volume; a context manager.

    The blocks go to ``<name>.partial`` beside the destination. A clean exit adds the coarser levels and renames; an
    exception removes it, so that under ``path`` there is a whole volume or nothing. Voxels never written are zero.

    A level halves every axis, whole blocks only, but an axis that is at least twice as coarse as the finest waits for
    the others, and an axis of one voxel stays: 50 x 4.6 x 4.6 nm is followed by 50 x 9.2 x 9.2 nm.

    Args:
        path: of the multiscale group; its parent folders are made.
        voxel_size: nm, per spatial axis: (z, y, x) or (y, x).
        corner: the corner of the first voxel, nm.
        shape: voxels of the finest level, without channels.
        dtype: of the voxels: bool, integer or float.
        channels: names; none means that there is no channel axis.
        levels: how many to write.
        labels: coarser levels by majority instead of mean.
        chunks: voxels; by default 64 per axis, 512 in two dimensions, and one channel.
        attributes: further attributes of the group, JSON: where the volume comes from, for example.

    Raises:
        FileExistsError: there is something at ``path``, or an unfinished volume beside it.
        ValueError: one of the arguments does not fit the others or the format.
    """

    def __init__(
        self,
        path: StrPath,
        *,
        voxel_size: Iterable[Length],
        corner: Iterable[Length],
        shape: Iterable[int],
        dtype: DTypeLike,
        channels: Sequence[str] = (),
        levels: int = 1,
        labels: bool = False,
        chunks: Iterable[int] | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        self.path = Path(path)
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.channels = tuple(channels)
        self._partial = self.path.with_name(f"{self.path.name}.partial")
        self._reduce = block_majority if labels else block_mean
        self._array: Any = None
        self._started = False
        dims = len(self.shape)
        if dims not in _AXES or not _positive(self.shape):
            raise ValueError(f"{path}: shape {self.shape} has to be 2 or 3 positive numbers of voxels")
        self._chunks = (_CHUNK[dims],) * dims if chunks is None else tuple(chunks)
        if len(self._chunks) != dims or not _positive(self._chunks):
            raise ValueError(f"{path}: chunks {self._chunks} have to be {dims} positive numbers of voxels")
        if self.dtype.kind not in "biuf":
            raise ValueError(f"{path}: dtype {self.dtype} has to be bool, integer or float")
        if len(set(self.channels)) < len(self.channels):
            raise ValueError(f"{path}: the channel names {self.channels} have to differ")
        first = Level("s0", self.shape, exact_size(voxel_size), exact_size(corner))
        if len(first.voxel_size) != dims or len(first.begin) != dims or min(first.voxel_size) <= 0:
            raise ValueError(
                f"{path}: voxel size {format_size(first.voxel_size)} nm and corner {format_size(first.begin)} nm "
                f"have to have {dims} axes, as the shape {self.shape}, and the voxel size has to be positive"
            )
        self._levels, self._factors = _pyramid(path, first, levels)
        self._attributes = {
            **_provenance(path, attributes or {}),
            **multiscale_attributes(self.path.name, _AXES[dims], self._levels, self.channels, self.dtype),
        }
        self._check_free()

    def start(self) -> Self:
        """Create the unfinished volume. Entering the context does this.

        Raises:
            FileExistsError: see the class.
        """
        self._check_free()
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        self._partial.mkdir()
        self._started = True
        try:
            create_group(self._partial, self._attributes)
            self._array = self._create(self._levels[0])
        except BaseException:
            self.discard()
            raise
        return self

    def write(self, begin: Sequence[int], data: np.ndarray) -> None:
        """Write a block of the finest level.

        Args:
            begin: its first voxel, per spatial axis, counted from the volume's corner.
            data: (z, y, x), or (channel, z, y, x) if the volume has channels.

        Raises:
            RuntimeError: the writer was not started, or is finished.
            ValueError: the block does not fit into the volume, or its dtype does not fit the volume's.
        """
        if self._array is None:
            raise RuntimeError(f"{self.path}: the writer is not open: write within its context")
        shape, dims = data.shape, len(self.shape)
        leading = (len(self.channels),) if self.channels else ()
        if len(begin) != dims or shape[: len(shape) - dims] != leading or len(shape) != dims + len(leading):
            raise ValueError(
                f"{self.path}: a block of shape {shape} at {tuple(begin)} does not go into a volume of shape "
                f"{leading + self.shape}"
            )
        end = tuple(b + n for b, n in zip(begin, shape[-dims:], strict=True))
        if min(begin) < 0 or any(e > n for e, n in zip(end, self.shape, strict=True)):
            raise ValueError(
                f"{self.path}: a block from voxel {tuple(begin)} to {end} reaches out of the volume's {self.shape}"
            )
        if not np.can_cast(data.dtype, self.dtype, "safe"):
            raise ValueError(f"{self.path}: a block of {data.dtype} does not fit into a volume of {self.dtype}")
        slices = tuple(slice(b, e) for b, e in zip(begin, end, strict=True))
        self._array[(slice(None),) * len(leading) + slices] = data

    def finish(self) -> None:
        """Make the coarser levels and give the volume its name. A clean exit from the context does this.

        Raises:
            RuntimeError: the writer was not started, or is finished.
            FileExistsError: something else took the name meanwhile.
        """
        if self._array is None:
            raise RuntimeError(f"{self.path}: the writer is not open: nothing to finish")
        try:
            for previous, level, factor in zip(self._levels, self._levels[1:], self._factors, strict=False):
                self._fill(open_array(self._partial / previous.path), self._create(level), level, factor)
            if self.path.exists():
                raise FileExistsError(f"{self.path} exists; it was made while this volume was written")
            os.rename(self._partial, self.path)
        except BaseException:
            self.discard()
            raise
        self._array, self._started = None, False

    def discard(self) -> None:
        """Remove the unfinished volume, if there is one. An exception within the context does this."""
        if self._started:
            shutil.rmtree(self._partial, ignore_errors=True)
        self._array, self._started = None, False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.discard()

    def _check_free(self) -> None:
        if self.path.exists():
            raise FileExistsError(f"{self.path} exists; choose another path or remove it")
        if self._partial.exists():
            raise FileExistsError(
                f"{self._partial} exists: an unfinished volume; remove it if nothing is writing it any more"
            )

    def _create(self, level: Level) -> Any:
        chunks = tuple(min(c, n) for c, n in zip(self._chunks, level.shape, strict=True))
        if self.channels:
            return create_array(
                self._partial / level.path, (len(self.channels), *level.shape), (1, *chunks), self.dtype
            )
        return create_array(self._partial / level.path, level.shape, chunks, self.dtype)

    def _fill(self, fine: StoredArray, coarse: Any, level: Level, factor: Sequence[int]) -> None:
        """Reduce ``fine`` into ``coarse``, one chunk of the result at a time."""
        leading: list[tuple[slice, ...]] = [(slice(c, c + 1),) for c in range(len(self.channels))] or [()]
        for channel, box in itertools.product(leading, _boxes(level.shape, self._chunks)):
            source = tuple(slice(part.start * f, part.stop * f) for part, f in zip(box, factor, strict=True))
            block = fine[(*channel, *source)]
            coarse[(*channel, *box)] = self._reduce(block, factor)


def _pyramid(path: StrPath, first: Level, count: int) -> tuple[list[Level], list[tuple[int, ...]]]:
    """``count`` levels, and the factors from each to the next."""
    if count < 1:
        raise ValueError(f"{path}: levels={count} has to be at least 1")
    levels, factors = [first], []
    while len(levels) < count:
        level = levels[-1]
        axes = list(zip(level.shape, level.voxel_size, strict=True))
        finest = min((size for n, size in axes if n > 1), default=None)
        if finest is None:
            raise ValueError(f"{path}: levels={count}, but shape {first.shape} can only have {len(levels)}")
        factor = tuple(2 if n > 1 and size < 2 * finest else 1 for n, size in axes)
        shape = tuple(n // f for n, f in zip(level.shape, factor, strict=True))
        size = tuple(v * f for v, f in zip(level.voxel_size, factor, strict=True))
        levels.append(Level(f"s{len(levels)}", shape, size, first.begin))
        factors.append(factor)
    return levels, factors


def _boxes(shape: Sequence[int], chunks: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """The chunks of an array, as slices."""
    return itertools.product(
        *([slice(b, min(b + c, n)) for b in range(0, n, c)] for n, c in zip(shape, chunks, strict=True))
    )


def _provenance(path: StrPath, attributes: Mapping[str, object]) -> dict[str, object]:
    if taken := [name for name in _RESERVED if name in attributes]:
        raise ValueError(f"{path}: the attribute {taken[0]!r} is written by the format; choose another name")
    try:
        json.dumps(dict(attributes))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: the attributes are no JSON: {error}") from error
    return dict(attributes)


def _positive(lengths: Sequence[int]) -> bool:
    return all(isinstance(length, (int, np.integer)) and length > 0 for length in lengths)
