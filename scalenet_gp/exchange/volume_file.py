"""A volume in a file of another program, opened for reading boxes of voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from threading import Lock
from types import TracebackType
from typing import Any, Self, final

import numpy as np

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.geometry import format_size
from scalenet_gp.volumes import nanometres

__all__ = ["Stated", "VolumeFile"]

_SPATIAL = ("z", "y", "x")


@final
@dataclass(frozen=True, slots=True)
class Stated:
    """The voxel size and position that a file states.

    Args:
        source: the place in the file, for messages: "the attribute resolution".
        voxel_size: per spatial axis, z, y, x.
        unit: the unit of both, as the file names it; None if it names none.
        corner: the corner of the first voxel; None if the file does not say it.

    Example:
        >>> stated = Stated("the attribute resolution", (Fraction(40), Fraction(4), Fraction(4)), None)
        >>> [str(length) for length in stated.in_nm("raw.h5", "micrometer").voxel_size]
        ['40000', '4000', '4000']
    """

    source: str
    voxel_size: tuple[Fraction, ...]
    unit: str | None
    corner: tuple[Fraction, ...] | None = None

    def in_nm(self, path: str, unit: str | None) -> Stated:
        """Return the same in nm.

        Args:
            path: the path of the file, for messages.
            unit: the unit of lengths in a file that names none.

        Raises:
            VolumeFormatError: there is no unit, or no such unit, or ``unit`` contradicts the file.
        """
        length = nanometres(f"{path}: {self.source}", self.unit, unit)
        if min(self.voxel_size) <= 0:
            raise VolumeFormatError(f"{path}: {self.source} says voxels of {format_size(self.voxel_size)}")
        corner = None if self.corner is None else tuple(length * position for position in self.corner)
        return replace(self, voxel_size=tuple(length * size for size in self.voxel_size), unit="nm", corner=corner)


@final
class VolumeFile:
    """An open volume of z, y, x or y, x, with or without channels; a context manager that closes the file.

    Args:
        path: the path of the file.
        axes: the names of the stored axes in order, of z, y, x and c; with z, y, x or y, x among them.
        shape: the lengths of the stored axes.
        dtype: the dtype of the voxels.
        read: reads a box of the stored axes; one thread at a time calls it.
        piece: the lengths of the stored axes that are read at once, as a chunk or a slice is.
        stated: reads the voxel size that the file states, None if it states none.
        check: checks the whole file before it is read.
        close: closes the file.

    Raises:
        VolumeFormatError: other axes, or a dtype that is not a number.

    Example:
        >>> voxels = np.arange(24).reshape(2, 3, 4)
        >>> with VolumeFile("x.raw", "xyz", voxels.shape, voxels.dtype, lambda box: voxels[box]) as file:
        ...     print(file.shape, file.read((0, 0, 0), (1, 1, 2)).tolist())
        (4, 3, 2) [[[0, 12]]]
    """

    def __init__(
        self,
        path: str,
        axes: Sequence[str],
        shape: Sequence[int],
        dtype: np.dtype[Any],
        read: Callable[[tuple[slice, ...]], np.ndarray],
        *,
        piece: Sequence[int] | None = None,
        stated: Callable[[], Stated | None] = lambda: None,
        check: Callable[[], None] = lambda: None,
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self.path = path
        self._stored = tuple(axes)
        space = tuple(name for name in _SPATIAL if name in self._stored)
        if (
            len(self._stored) != len(shape)
            or space not in (_SPATIAL, _SPATIAL[1:])
            or sorted(self._stored) != sorted((*space, *("c" for name in self._stored if name == "c")))
        ):
            raise VolumeFormatError(
                f"{path}: an array of shape {tuple(shape)} with the axes {', '.join(self._stored) or 'unknown'}; state "
                "with --axes which is which: a letter for each, of z, y, x and c (channels), as zyx"
            )
        if dtype.kind not in "biuf":
            raise VolumeFormatError(f"{path}: voxels of {dtype}; they have to be whole numbers, floats or booleans")
        self._order = tuple(self._stored.index(name) for name in (*("c" for n in self._stored if n == "c"), *space))
        lengths = tuple(int(shape[axis]) for axis in self._order)
        pieces = tuple(int((piece or shape)[axis]) for axis in self._order)
        self.axes = space
        self.shape, self.piece = lengths[-len(space) :], pieces[-len(space) :]
        self.channels = lengths[0] if len(lengths) > len(space) else None
        self.dtype = dtype.newbyteorder("=")
        self._stated = stated
        self.check = check
        self._read = read
        self._close = close
        self._lock = Lock()
        if min(lengths) < 1:
            raise VolumeFormatError(f"{path}: an array of shape {tuple(shape)} has no voxels")

    @cached_property
    def stated(self) -> Stated | None:
        """The voxel size that the file states; None if it states none.

        Raises:
            VolumeFormatError: the file contradicts itself.
        """
        return self._stated()

    def without_metadata(self) -> Self:
        """Return this file, which from now on states no voxel size."""
        self._stated = lambda: None
        return self

    def read(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray:
        """Return the voxels of a box, (c, z, y, x), without c if the file has no channels.

        Args:
            begin: the first voxel, per spatial axis.
            end: the voxel past the last.

        Raises:
            OSError: the file cannot be read.
            VolumeFormatError: a part of it is damaged.
        """
        box = tuple(slice(int(b), int(e)) for b, e in zip(begin, end, strict=True))
        if any(part.start < 0 or part.stop > n for part, n in zip(box, self.shape, strict=True)):
            raise ArgumentError(f"{self.path}: voxels {tuple(begin)} to {tuple(end)} reach out of {self.shape}")
        wanted = (slice(0, self.channels), *box) if self.channels is not None else box
        stored = [slice(None)] * len(self._order)
        for axis, part in zip(self._order, wanted, strict=True):
            stored[axis] = part
        with self._lock:
            voxels = self._read(tuple(stored))
        return np.ascontiguousarray(voxels.transpose(self._order), dtype=self.dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()
