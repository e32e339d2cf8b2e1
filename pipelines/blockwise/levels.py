"""Levels of a pyramid that is written block by block: those that a block makes, and their place."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scalenet_gp.volumes import ImageLayout, MultiscaleArrayWriter

__all__ = ["coarsen", "fine_voxels", "level_boxes", "levels_within_blocks"]


def levels_within_blocks(layout: ImageLayout, block: Sequence[int]) -> int:
    """Return the number of levels, with the finest, that have whole chunks in every block.

    Args:
        layout: layout of the volume.
        block: shape of a block, voxels of the finest level; 0 along an axis with a single block.
    """
    for level in range(1, layout.levels):
        steps = zip(block, fine_voxels(layout, level), layout.chunks, strict=True)
        if any(length % (factor * chunk) for length, factor, chunk in steps):
            return level
    return layout.levels


def level_boxes(layout: ImageLayout, block: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Return the levels that the blocks do not make, each with the shape of the boxes in which it is made.

    A box is whole chunks of the level, and about as many voxels of the level before it as a block has.

    Args:
        layout: layout of the volume.
        block: shape of a block, voxels of the finest level.

    Returns:
        The shapes in voxels of the finest level.
    """
    several = [0 if length >= extent else length for length, extent in zip(block, layout.shape, strict=True)]
    boxes = {}
    for level in range(levels_within_blocks(layout, several), layout.levels):
        factors, before = fine_voxels(layout, level), fine_voxels(layout, level - 1)
        boxes[level] = tuple(
            min(extent, factor * chunk * max(1, length * step // (factor * chunk)))
            for extent, factor, chunk, length, step in zip(
                layout.shape, factors, layout.chunks, block, before, strict=True
            )
        )
    return boxes


def coarsen(volume: MultiscaleArrayWriter, level: int, begin: Sequence[int], end: Sequence[int]) -> None:
    """Write the part of a level that lies within voxels ``begin`` to ``end`` of the finest level."""
    factor = fine_voxels(volume.layout, level)
    first, past = ([int(corner) // f for corner, f in zip(edge, factor, strict=True)] for edge in (begin, end))
    volume.coarsen(level, first, [p - f for f, p in zip(first, past, strict=True)])


def fine_voxels(layout: ImageLayout, level: int) -> tuple[int, ...]:
    """Return the number of voxels of the finest level that make one voxel of ``level``, along each axis."""
    return tuple(math.prod(along) for along in zip((1,) * len(layout.shape), *layout.factors[:level], strict=True))
