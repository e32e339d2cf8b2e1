"""The pyramids of the outputs: the finer levels are made with every block, each coarser one in boxes of its own.

A level that is not made with the blocks is made when the one before is whole: of every product at once, in boxes that
are handed out, done and tracked as blocks are. With blocks that can be halved down to one chunk along every axis, as
:meth:`.Grid.fitting` prefers them, one chunk of each block is left to be read for that; with blocks that are flat, so
that one axis ends the halving early, it is more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

from funlib.geometry import Coordinate, Roi

from scalenet_gp.pipelines.prediction.prediction import Prediction
from scalenet_gp.volumes import ImageLayout, MultiscaleArrayWriter

__all__ = ["LevelWork", "coarsen", "level_box", "levels_left", "levels_within_blocks"]


def levels_within_blocks(layout: ImageLayout, block: Sequence[int]) -> int:
    """How many levels, counted with the finest, have whole chunks in every block.

    Args:
        layout: of the volume.
        block: voxels of the finest level; 0 along an axis with one block only.
    """
    for level in range(1, layout.levels):
        steps = zip(block, _factor(layout, level), layout.chunks, strict=True)
        if any(length % (factor * chunk) for length, factor, chunk in steps):
            return level
    return layout.levels


def coarsen(volume: MultiscaleArrayWriter, level: int, begin: Sequence[int], end: Sequence[int]) -> None:
    """Make the part of a level that lies within voxels ``begin`` to ``end`` of the finest one."""
    factor = _factor(volume.layout, level)
    first, past = ([int(corner) // f for corner, f in zip(edge, factor, strict=True)] for edge in (begin, end))
    volume.coarsen(level, first, [p - f for f, p in zip(first, past, strict=True)])


def levels_left(prediction: Prediction) -> list[int]:
    """The levels that some product has and that are not made with the blocks; to be made in this order."""
    most = max(layout.levels for layout in prediction.layouts().values())
    return [level for level in range(1, most) if _with_level(prediction, level)]


def level_box(prediction: Prediction, level: int) -> Coordinate:
    """Shape of the boxes in which a level is made, world units, counted from the region's corner.

    They are whole chunks of the level in every product's volume, so that no two of them share one, and for each about
    as many voxels of the level before are read as a block has.

    Args:
        prediction: the job.
        level: one of :func:`levels_left`.
    """
    chunks, steps = [], []
    for product, layout in _with_level(prediction, level).items():
        size = prediction.voxel_sizes[product]
        chunks.append(size * Coordinate(layout.chunks) * Coordinate(_factor(layout, level)))
        steps.append(_factor(layout, level - 1))
    box = []
    for axis, (block, extent) in enumerate(zip(prediction.grid.block, prediction.grid.roi.shape, strict=True)):
        unit = math.lcm(*(int(chunk[axis]) for chunk in chunks))
        wanted = int(block) * max(step[axis] for step in steps)
        box.append(min(int(extent), unit * max(1, wanted // unit)))
    return Coordinate(box)


@final
class LevelWork:
    """Makes boxes of a level in the volumes of all products that lack it; any number of threads may do so at once.

    Args:
        prediction: the job; the level before has been made.
        level: one of :func:`levels_left`.
    """

    def __init__(self, prediction: Prediction, level: int) -> None:
        lacking = _with_level(prediction, level)
        self._level = level
        self._corner = prediction.grid.roi.begin
        self._volumes = [
            (MultiscaleArrayWriter.open(folder), prediction.voxel_sizes[product])
            for product, folder in prediction.folders()
            if product in lacking
        ]

    def __call__(self, roi: Roi) -> None:
        """Make a box; when this returns, it is on the disk.

        Args:
            roi: world units; a box of :func:`level_box`.

        Raises:
            OSError: the level before cannot be read, or the disk is full.
        """
        for volume, size in self._volumes:
            begin, end = ((corner - self._corner) / size for corner in (roi.begin, roi.end))
            coarsen(volume, self._level, begin, end)


def _with_level(prediction: Prediction, level: int) -> dict[str, ImageLayout]:
    """The products of which a level is to be made, and is not made with the blocks."""
    return {
        product: layout
        for product, layout in prediction.layouts().items()
        if levels_within_blocks(layout, prediction.block_voxels(product)) <= level < layout.levels
    }


def _factor(layout: ImageLayout, level: int) -> tuple[int, ...]:
    """Voxels of the finest level that make one of ``level``, along each axis."""
    return tuple(math.prod(along) for along in zip((1,) * len(layout.shape), *layout.factors[:level], strict=True))
