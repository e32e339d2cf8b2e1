"""The layout of a volume to write: position, kind of values and storage, fixed before its first voxel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any, Literal, final, get_args

import numpy as np

from scalenet_gp.errors import ArgumentError, DataError
from scalenet_gp.geometry import Length, exact_size, format_size
from scalenet_gp.volumes.metadata import Level

__all__ = ["ImageLayout", "Kind", "default_levels"]

Kind = Literal["fractions", "quantities", "labels"]
"""The kind of the values of a volume.

"fractions" lie in [0, 1], as probabilities do: unsigned integers store them as shares of their largest number, so
uint8 stores round(255 × value). "quantities" are stored as they are. "labels" are names, stored as they are; a
coarser voxel takes the most frequent one. With the other kinds it takes the mean.
"""

_AXES = {2: ("y", "x"), 3: ("z", "y", "x")}
_CHUNK = {2: 512, 3: 64}
_LONGEST = 128  # voxels of the coarsest level: it is drawn at once, and costs next to nothing


@final
@dataclass(frozen=True, slots=True)
class ImageLayout:
    """The layout of a volume of two or three dimensions, with its pyramid of levels.

    A level halves every axis, whole blocks only, but an axis that is at least twice as coarse as the finest waits for
    the others, and an axis of one voxel stays: 50 x 4.6 x 4.6 nm is followed by 50 x 9.2 x 9.2 nm.

    Args:
        voxel_size: nm, of the finest level, per spatial axis: (z, y, x) or (y, x).
        corner: the corner of the first voxel, nm.
        shape: voxels of the finest level, without channels.
        channels: names; none means that there is no channel axis.
        stored: name of the dtype: bool, integer or float.
        kind: the kind of the values.
        levels: the number of levels; :func:`default_levels` returns the number that a viewer needs.
        chunks: voxels of a chunk of any level, which holds one channel: 64 per axis by default, 512 in two dimensions;
            cut to the shape.

    Raises:
        ArgumentError: one of the arguments is out of its range, or does not fit the others.

    Example:
        >>> layout = ImageLayout((50, 4.6, 4.6), (0, 0, 0), (20, 100, 100), levels=2)
        >>> layout.pyramid[1].shape
        (20, 50, 50)
    """

    voxel_size: tuple[Fraction, ...]
    corner: tuple[Fraction, ...]
    shape: tuple[int, ...]
    channels: tuple[str, ...] = ()
    stored: str = "float32"
    kind: Kind = "fractions"
    levels: int = 1
    chunks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        dims, dtype = len(self.shape), np.dtype(self.stored)
        if dims not in _AXES or not _positive(self.shape):
            raise ArgumentError(f"shape {tuple(self.shape)} has to be 2 or 3 positive numbers of voxels")
        size, corner = exact_size(self.voxel_size), exact_size(self.corner)
        if len(size) != dims or len(corner) != dims or min(size) <= 0:
            raise ArgumentError(
                f"voxel size {format_size(size)} nm and corner {format_size(corner)} nm have to have {dims} axes, as "
                f"the shape {tuple(self.shape)}, and the voxel size has to be positive"
            )
        chunks = tuple(self.chunks) or (_CHUNK[dims],) * dims
        if len(chunks) != dims or not _positive(chunks):
            raise ArgumentError(f"chunks {chunks} have to be {dims} positive numbers of voxels")
        if self.kind not in get_args(Kind):
            raise ArgumentError(f"kind={self.kind!r} has to be one of {', '.join(get_args(Kind))}")
        kinds, named = ("uf", "unsigned") if self.kind == "fractions" else ("biuf", "bool,")
        if dtype.kind not in kinds:
            raise ArgumentError(f"dtype {dtype} has to be {named} integer or float, to store {self.kind}")
        if len(set(self.channels)) < len(self.channels):
            raise ArgumentError(f"the channel names {tuple(self.channels)} have to differ")
        values = {
            "voxel_size": size,
            "corner": corner,
            "shape": tuple(map(int, self.shape)),
            "channels": tuple(self.channels),
            "stored": dtype.name,
            "chunks": tuple(min(chunk, length) for chunk, length in zip(chunks, self.shape, strict=True)),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        possible = 1 + sum(1 for _ in _coarser(self.finest))
        if not 1 <= self.levels <= possible:
            what = "has to be at least 1" if self.levels < 1 else f"but shape {self.shape} can only have {possible}"
            raise ArgumentError(f"levels={self.levels}{' ' if self.levels < 1 else ', '}{what}")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the stored values."""
        return np.dtype(self.stored)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the spatial axes."""
        return _AXES[len(self.shape)]

    @property
    def finest(self) -> Level:
        """The first level."""
        return Level("s0", self.shape, self.voxel_size, self.corner)

    @property
    def pyramid(self) -> tuple[Level, ...]:
        """The levels, from fine to coarse."""
        return (self.finest, *(level for level, _ in islice(_coarser(self.finest), self.levels - 1)))

    @property
    def factors(self) -> tuple[tuple[int, ...], ...]:
        """The numbers of voxels of the level before that make one voxel of a level, from the second level on."""
        return tuple(factor for _, factor in islice(_coarser(self.finest), self.levels - 1))

    @property
    def scale(self) -> Fraction:
        """The value of a stored 1."""
        integers = self.kind == "fractions" and self.dtype.kind == "u"
        return Fraction(1, int(np.iinfo(self.dtype).max)) if integers else Fraction(1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return values as they are stored.

        Fractions that become integers are clipped to [0, 1] and rounded to the nearest, halves to even. Floats are
        rounded to the floats that are stored; every other value has to fit.

        Raises:
            DataError: a value that cannot be stored: NaN among fractions, or a number beyond the range of the dtype.
            ArgumentError: a dtype that does not fit.
        """
        if values.dtype.kind == "f" and self.scale != 1:
            shares = values * values.dtype.type(1 / self.scale)
            if np.isnan(shares.min(initial=0)):
                raise DataError(f"not a number at {_first(np.isnan(shares))}, which {self.stored} cannot store")
            np.clip(shares, 0, int(1 / self.scale), out=shares)
            return np.rint(shares, out=shares).astype(self.dtype)
        rounding = values.dtype.kind == self.dtype.kind == "f"
        if self.scale != 1 or not (rounding or np.can_cast(values.dtype, self.dtype, "safe")):
            raise ArgumentError(f"a block of {values.dtype} does not fit into a volume of {self.dtype} {self.kind}")
        with np.errstate(over="ignore"):
            stored = values.astype(self.dtype, copy=False)
        if stored.dtype.itemsize < values.dtype.itemsize and rounding:
            lost = np.isinf(stored) & np.isfinite(values)
            if lost.any():
                raise DataError(f"{values[lost][0]} at {_first(lost)} is out of the range of {self.stored}")
        return stored


def default_levels(voxel_size: Iterable[Length], shape: Sequence[int]) -> int:
    """Return the number of levels so that the coarsest has at most 128 voxels along every axis, if possible."""
    dims = len(shape)
    levels = 1
    level = Level("s0", tuple(shape), exact_size(voxel_size), (Fraction(0),) * dims)
    for coarser, _ in _coarser(level):
        if max(level.shape) <= _LONGEST:
            break
        level, levels = coarser, levels + 1
    return levels


def _coarser(level: Level) -> Iterator[tuple[Level, tuple[int, ...]]]:
    """Yield the levels after the first, each with its factors from the one before, up to a level of one voxel."""
    number = 1
    while max(level.shape) > 1:
        axes = list(zip(level.shape, level.voxel_size, strict=True))
        finest = min(size for n, size in axes if n > 1)
        factor = tuple(2 if n > 1 and size < 2 * finest else 1 for n, size in axes)
        shape = tuple(n // f for n, f in zip(level.shape, factor, strict=True))
        size = tuple(v * f for v, f in zip(level.voxel_size, factor, strict=True))
        level = Level(f"s{number}", shape, size, level.begin)
        yield level, factor
        number += 1


def _first(where: np.ndarray) -> tuple[int, ...]:
    """Return the index of the first True."""
    return tuple(int(i) for i in np.argwhere(where)[0])


def _positive(lengths: Sequence[int]) -> bool:
    return all(isinstance(length, (int, np.integer)) and length > 0 for length in lengths)
