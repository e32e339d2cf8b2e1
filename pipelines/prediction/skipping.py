"""The blocks that a mask volume leaves out."""

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
"""Shape of the part of a mask that is in memory at a time, voxels, by the number of axes: mostly whole chunks."""


def empty_blocks(mask: MultiscaleImage, grid: Grid, world: World) -> np.ndarray:
    """Find the blocks in which a mask is zero, and one of its voxels around them.

    Args:
        mask: nonzero where there is something; zero outside of the volume. Its finest level is read where blocks are,
            part by part. It has a lattice of its own.
        grid: the blocks.
        world: the coordinates of ``grid``.

    Returns:
        bool, one for each block: shape ``grid.shape``.

    Raises:
        ConfigError: the mask has another number of axes, or is zero in all blocks.
        UnreadableDataError: a chunk of the mask cannot be decoded.
    """
    dims = len(grid.shape)
    if mask.dims != dims:
        raise ConfigError(f"prediction.mask: {mask.path} has {mask.dims} axes; it has to have {dims}, like the region")
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
            f"prediction.mask: {mask.path} leaves out every block: the region lies between {format_size(begin)} "
            f"and {format_size(end)} nm, and {_extent(mask)}"
        )
    return ~touched


def _spans(
    begin: Fraction, end: Fraction, length: Fraction, count: int, first: Fraction, size: Fraction, voxels: int
) -> NDArray[np.int64]:
    """Return the voxels along an axis in or next to each block: the first, and the one past the last.

    Args:
        begin: begin of the first block, nm.
        end: end of the last block, nm.
        length: length of a block other than the last, nm.
        count: number of blocks.
        first: begin of the first voxel, nm.
        size: length of a voxel, nm.
        voxels: number of voxels.

    Returns:
        int, shape (2, count).
    """
    edges = [min(begin + index * length, end) - first for index in range(count + 1)]
    low = [math.floor(edge / size) - 1 for edge in edges[:-1]]
    high = [math.ceil(edge / size) + 1 for edge in edges[1:]]
    return np.clip(np.array([low, high]), 0, voxels)


def _parts(mask: MultiscaleImage, low: Sequence[int], high: Sequence[int]) -> Iterator[tuple[Coordinate, np.ndarray]]:
    """Yield the parts of a box of voxels that are not empty: the first voxel of each, and bool (z, y, x)."""
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
    """Return True for each pair of ``first`` and ``last`` with any voxel from first to before last, along one axis."""
    counts = np.cumsum(np.pad(there, [(int(a == axis), 0) for a in range(there.ndim)]), axis, dtype=np.int32)
    return counts.take(last, axis) > counts.take(first, axis)


def _extent(mask: MultiscaleImage) -> str:
    """Describe the region in which a mask is not zero."""
    level = mask.levels[0]
    first, last = list(level.shape), [0] * mask.dims
    for corner, there in _parts(mask, (0,) * mask.dims, level.shape):
        for axis in range(mask.dims):
            indices = np.flatnonzero(there.any(axis=tuple(a for a in range(mask.dims) if a != axis)))
            first[axis] = min(first[axis], int(corner[axis] + indices.min()))
            last[axis] = max(last[axis], int(corner[axis] + indices.max()) + 1)
    if not any(last):
        return "the mask is zero everywhere"
    begin, end = (
        format_size(b + edge * size for b, edge, size in zip(level.begin, edges, level.voxel_size, strict=True))
        for edges in (first, last)
    )
    return f"the mask is nonzero only between {begin} and {end} nm"
