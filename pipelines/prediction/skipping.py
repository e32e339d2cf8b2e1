"""Which blocks have nothing in them, by a mask volume."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import World, format_size
from scalenet_gp.pipelines.blockwise import Grid, tiles
from scalenet_gp.volumes import MultiscaleImage

__all__ = ["empty_blocks"]

_PART = {2: (4096, 4096), 3: (128, 512, 512)}
"""Voxels of a mask that are in memory at a time, by the number of axes: whole chunks as they mostly are."""


def empty_blocks(mask: MultiscaleImage, grid: Grid, world: World) -> np.ndarray:
    """The blocks in which a mask is zero, and by one of its voxels around them.

    Args:
        mask: nonzero where there is something; there is nothing outside of it. Its finest level is read, which has a
            lattice of its own: where blocks are, part by part.
        grid: the blocks.
        world: the coordinates of ``grid``.

    Returns:
        bool, one for each block: shape ``grid.shape``.

    Raises:
        ValueError: the mask has another number of axes, or nothing in any of the blocks.
        UnreadableDataError: a chunk of the mask cannot be decoded.
    """
    dims = len(grid.shape)
    if mask.dims != dims:
        raise ConfigError(f"the mask {mask.path} has {mask.dims} axes; it has to have {dims}, as what is predicted has")
    level = mask.levels[0]
    begin, end = (world.position_in_nm(corner) for corner in (grid.roi.begin, grid.roi.end))
    spans = [
        _spans(*along)
        for along in zip(
            *(begin, end, world.size_in_nm(grid.block), grid.shape),
            *(level.begin, level.voxel_size, level.shape),
            strict=True,
        )
    ]
    touched = np.zeros(grid.shape, dtype=bool)
    low, high = ([int(span.min()) for span in spans], [int(span.max()) for span in spans])
    for corner, there in _parts(mask, low, high):
        within = [np.clip(span - c, 0, n) for span, c, n in zip(spans, corner, there.shape, strict=True)]
        reached = [np.flatnonzero(first < last) for first, last in within]
        for axis, ((first, last), index) in enumerate(zip(within, reached, strict=True)):
            there = _any_between(there, axis, first[index], last[index])
        touched[np.ix_(*reached)] |= there
    if not touched.any():
        raise ConfigError(
            f"the mask {mask.path} leaves out every block: the region lies between {format_size(begin)} "
            f"and {format_size(end)} nm, and {_extent(mask)}"
        )
    return ~touched


def _spans(
    begin: Fraction, end: Fraction, length: Fraction, count: int, first: Fraction, size: Fraction, voxels: int
) -> NDArray[np.int64]:
    """The voxels along an axis that lie in or next to each of ``count`` blocks: the first, and the one past the last.

    Args:
        begin: of the first block.
        end: of the last.
        length: of each but the last.
        count: of blocks.
        first: where the first voxel begins.
        size: of a voxel.
        voxels: how many there are.
    """
    edges = [min(begin + index * length, end) - first for index in range(count + 1)]
    low = [math.floor(edge / size) - 1 for edge in edges[:-1]]
    high = [math.ceil(edge / size) + 1 for edge in edges[1:]]
    return np.clip(np.array([low, high]), 0, voxels)


def _parts(mask: MultiscaleImage, low: Sequence[int], high: Sequence[int]) -> Iterator[tuple[Coordinate, np.ndarray]]:
    """Where there is something in a box of voxels of a mask: part by part its first voxel, and bool (z, y, x).

    Parts with nothing in them are left out.
    """
    level = mask.levels[0]
    world = mask.world(level.voxel_size)
    voxel, corner = world.size(level.voxel_size), world.position(level.begin)
    box = Roi(corner + Coordinate(low) * voxel, Coordinate(np.subtract(high, low)) * voxel)
    edges = Coordinate(_PART[mask.dims])
    first = Coordinate(low) // edges * edges  # where chunks begin
    for part in tiles(Roi(corner + first * voxel, Coordinate(high - np.array(first)) * voxel), edges * voxel):
        needed = part.intersect(box)
        if needed.empty:
            continue
        there = np.any(mask.read(needed, voxel, world, labels=True), axis=0)
        if there.any():
            yield (needed.begin - corner) // voxel, there


def _any_between(there: np.ndarray, axis: int, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Whether there is anything from ``first`` to before ``last``, for each pair of them, along one axis."""
    counts = np.cumsum(np.pad(there, [(int(a == axis), 0) for a in range(there.ndim)]), axis, dtype=np.int32)
    return counts.take(last, axis) > counts.take(first, axis)


def _extent(mask: MultiscaleImage) -> str:
    """Where a mask is not zero, in words."""
    level = mask.levels[0]
    first, last = list(level.shape), [0] * mask.dims
    for corner, there in _parts(mask, (0,) * mask.dims, level.shape):
        for axis in range(mask.dims):
            places = np.flatnonzero(there.any(axis=tuple(a for a in range(mask.dims) if a != axis)))
            first[axis] = min(first[axis], int(corner[axis] + places.min()))
            last[axis] = max(last[axis], int(corner[axis] + places.max()) + 1)
    if not any(last):
        return "the mask is zero everywhere"
    begin, end = (
        format_size(b + edge * size for b, edge, size in zip(level.begin, edges, level.voxel_size, strict=True))
        for edges in (first, last)
    )
    return f"the mask is nonzero only between {begin} and {end} nm"
