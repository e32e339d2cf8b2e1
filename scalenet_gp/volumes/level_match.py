"""Choice of the level of a pyramid that serves a voxel size in a world, in exact rationals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, final

import numpy as np
from funlib.geometry import Coordinate

from scalenet_gp.errors import LatticeError
from scalenet_gp.geometry import World, common_unit, format_size
from scalenet_gp.volumes.label_resampling import StoredGrid
from scalenet_gp.volumes.metadata import Level
from scalenet_gp.volumes.resampling import Coverage

__all__ = ["Alignment", "LevelMatch", "fitting_world", "match_level", "reflect_indices"]

Alignment = Literal["exact", "resample"]
"""The treatment of a volume whose corner or voxel size does not fit the requested lattice.

"exact": it is refused. "resample": the voxels come from the coarsest level that is as fine on every axis. Voxels that
this level does not have, and that whole blocks of its voxels do not make, are resampled as
:mod:`scalenet_gp.volumes.resampling` describes. Content stays where it is, to the fraction of a voxel, and is a little
smoother where the shift is a part of a voxel. A voxel that reaches beyond a face of the volume does not count as data.

A finer level whose blocks would fit is not preferred: a crop may lie 4 nm off the lattice of 128 nm voxels, and a patch
of them is 32768 times as large at 4 nm.

Labels are read by whole blocks where "exact" reads them, and give the same. Elsewhere they are resampled as
:mod:`scalenet_gp.volumes.label_resampling` describes, from the coarsest level that is as fine on every axis; from the
finest if there is none, as labels may be coarser than what is asked for.
"""

_Box = Iterable[tuple[int, int]]
"""Begin and end in voxels, per spatial axis."""


@final
@dataclass(frozen=True, slots=True)
class LevelMatch:
    """The way in which a level serves a voxel size: by whole voxels if all its numbers are whole, else resampled.

    Args:
        level: the index of the level.
        shape: the shape of the level, voxels.
        factor: voxels of the level per served voxel.
        first: the first voxel of the level, counted in its own voxels from the world's origin.
    """

    level: int
    shape: tuple[int, ...]
    factor: tuple[Fraction, ...]
    first: tuple[Fraction, ...]

    @property
    def whole(self) -> bool:
        """True if served voxels are made of whole ones."""
        return all(length.denominator == 1 for length in self.factor + self.first)

    def available(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Return begin and end of the served voxels inside, counted from the world's origin; None if there is none."""
        begin = tuple(math.ceil(first / f) for first, f in zip(self.first, self.factor, strict=True))
        end = tuple(
            math.floor((first + n) / f) for first, n, f in zip(self.first, self.shape, self.factor, strict=True)
        )
        return (begin, end) if all(b < e for b, e in zip(begin, end, strict=True)) else None

    def blocks(self, box: _Box) -> list[tuple[int, int]]:
        """Return the box of the level's voxels, counted from its first one, that cover the served ones in ``box``."""
        return [
            (math.floor(b * factor - first), math.ceil(e * factor - first))
            for (b, e), factor, first in zip(box, self.factor, self.first, strict=True)
        ]

    def grid(self, stored: _Box) -> StoredGrid:
        """Return the place of the level's voxels in a box of them, counted from its first one."""
        begin = ((first + b) / factor for (b, _), factor, first in zip(stored, self.factor, self.first, strict=True))
        return StoredGrid(tuple(begin), tuple(1 / factor for factor in self.factor))

    def coverage(self, box: _Box) -> list[Coverage]:
        """Return the coverage of the level's voxels by the served ones in ``box``, mirrored at the level's faces."""
        covered = [
            Coverage.of(b, e, factor, first) for (b, e), factor, first in zip(box, self.factor, self.first, strict=True)
        ]
        return [replace(c, index=reflect_indices(c.index, 0, n)) for c, n in zip(covered, self.shape, strict=True)]


def match_level(
    levels: Sequence[Level], size: Coordinate, world: World, alignment: Alignment, *, labels: bool = False
) -> LevelMatch:
    """Return the coarsest level that can give the voxel size.

    An exact alignment needs a level that has or divides the voxel size, and lies on its own lattice of the world.
    Resampling needs one that is as fine on every axis. For labels it prefers the level of an exact alignment, and needs
    none.

    Args:
        levels: the levels of one volume, from fine to coarse.
        size: the voxel size, world units.
        world: the world in whose lattice the voxels lie.
        alignment: see :data:`Alignment`.
        labels: the values are names, not quantities.

    Raises:
        LatticeError: no level can.
    """
    asked = world.size_in_nm(size)
    origin = world.position_in_nm(Coordinate((0,) * len(asked)))
    matches: list[LevelMatch] = []
    reasons: list[str] = []
    remedy = ""
    for index, level in enumerate(levels):
        factor = tuple(a / v for a, v in zip(asked, level.voxel_size, strict=True))
        first = tuple((b - o) / v for b, o, v in zip(level.begin, origin, level.voxel_size, strict=True))
        matches.append(LevelMatch(index, level.shape, factor, first))
        if any(f.denominator != 1 for f in factor):
            reasons.append(f"{level.path}: {format_size(level.voxel_size)} nm does not divide it")
        elif any(f.denominator != 1 for f in first):
            reasons.append(
                f"{level.path}: its corner {format_size(level.begin)} nm is off the lattice of its "
                f"{format_size(level.voxel_size)} nm from the world's origin {format_size(origin)} nm"
            )
            fitting = fitting_world(level.begin, [asked], world.unit)
            remedy = f"; World(unit={str(fitting.unit)!r}, origin={tuple(map(str, fitting.origin))}) would fit"
    whole = [match for match in matches if match.whole]
    finer = [match for match in matches if min(match.factor) >= 1]
    resampled = (whole or finer or matches[:1]) if labels else finer
    found = whole if alignment == "exact" else resampled
    if not found and alignment == "exact":
        remedy += "; opened with alignment='resample', the volume would be resampled" if resampled else ""
        raise LatticeError(f"no level can give voxels of {format_size(asked)} nm: {'; '.join(reasons)}{remedy}")
    if not found:
        sizes = ", ".join(f"{level.path} of {format_size(level.voxel_size)} nm" for level in levels)
        raise LatticeError(f"no level is as fine as {format_size(asked)} nm on every axis: {sizes}")
    return min(found, key=lambda match: math.prod(match.factor))


def fitting_world(
    corner: Iterable[Fraction], voxel_sizes: Sequence[Sequence[Fraction]], unit: Fraction | None
) -> World:
    """Return the world in which ``corner`` lies on the lattice of every one of ``voxel_sizes``, its origin near zero.

    Args:
        corner: nm.
        voxel_sizes: nm.
        unit: nm per world unit; by default the largest that makes every voxel size whole.
    """
    steps = [_common_multiple(lengths) for lengths in zip(*voxel_sizes, strict=True)]
    # the representative in [-step / 2, step / 2)
    origin = [(c + step / 2) % step - step / 2 for c, step in zip(corner, steps, strict=True)]
    return World(common_unit(voxel_sizes) if unit is None else unit, tuple(origin))


def reflect_indices(index: np.ndarray, begin: int, end: int) -> np.ndarray:
    """Fold voxel indices into [begin, end), mirrored at the faces."""
    size = end - begin
    offset = (index - begin) % (2 * size)
    folded: np.ndarray = begin + np.minimum(offset, 2 * size - 1 - offset)
    return folded


def _common_multiple(lengths: Sequence[Fraction]) -> Fraction:
    """Return the smallest length that is a whole multiple of each one."""
    denominator = math.lcm(*(length.denominator for length in lengths))
    return Fraction(math.lcm(*(int(length * denominator) for length in lengths)), denominator)
