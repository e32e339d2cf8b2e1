"""Which blocks have nothing in them, by a mask volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.nodes import Multiscale
from scalenet_gp.pipelines.blockwise.grid import Grid
from scalenet_gp.world import World

__all__ = ["empty_blocks"]

_Span = tuple[int, int]


def empty_blocks(mask: Multiscale, grid: Grid, world: World) -> np.ndarray:
    """The blocks in which a mask is zero, and by one of its voxels around them.

    Args:
        mask: nonzero where there is something; there is nothing outside of it. Its finest level is read, which has a
            lattice of its own.
        grid: the blocks.
        world: the coordinates of ``grid``.

    Returns:
        bool, one for each block: shape ``grid.shape``.

    Raises:
        UnreadableDataError: a chunk of the mask cannot be decoded.
    """
    level = mask.levels[0]
    spans = [
        [
            _span(begin + index * length, min(begin + (index + 1) * length, end), first, size, voxels)
            for index in range(count)
        ]
        for begin, end, length, count, first, size, voxels in zip(
            world.position_in_nm(grid.roi.begin),
            world.position_in_nm(grid.roi.end),
            world.size_in_nm(grid.block),
            grid.shape,
            level.begin,
            level.voxel_size,
            level.shape,
            strict=True,
        )
    ]
    own = mask.world(level.voxel_size)
    voxel, corner = own.size(level.voxel_size), own.position(level.begin)
    rows = []
    for first, last in spans[0]:
        if first == last:
            rows.append(np.zeros(grid.shape[1:], dtype=bool))
            continue
        begin, end = (
            Coordinate((edge, *rest)) for edge, rest in ((first, (0,) * (mask.dims - 1)), (last, level.shape[1:]))
        )
        data = mask.read(Roi(corner + begin * voxel, (end - begin) * voxel), voxel, own, labels=True)
        rows.append(_touched(np.any(data, axis=(0, 1), keepdims=True)[0, 0], spans[1:]))
    return ~np.stack(rows)


def _span(begin: Fraction, end: Fraction, first: Fraction, size: Fraction, voxels: int) -> _Span:
    """The voxels along an axis that lie in a block or next to it."""
    low, high = math.floor((begin - first) / size) - 1, math.ceil((end - first) / size) + 1
    return min(max(low, 0), voxels), min(max(high, 0), voxels)


def _touched(there: np.ndarray, spans: Sequence[Sequence[_Span]]) -> np.ndarray:
    """Whether there is anything in the boxes that ``spans`` make, axis by axis."""
    if not spans:
        return there
    return np.stack(
        [_touched(np.any(there[first:last], axis=0, keepdims=True)[0], spans[1:]) for first, last in spans[0]]
    )
