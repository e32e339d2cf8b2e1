"""The pyramids of the outputs: finer levels are made with each block, coarser ones in stages of their own.

A level that is not made with the blocks is made when the level before it is whole, for every product at once, in boxes
that are handed out and tracked like blocks. Blocks that can be halved down to one chunk along every axis, as
:meth:`.Grid.fitting` prefers them, leave one chunk per block to be read for that. Flat blocks, whose one axis ends the
halving early, leave more.
"""

from __future__ import annotations

import math
from typing import final

from funlib.geometry import Coordinate, Roi

from scalenet_gp.pipelines.blockwise import coarsen, fine_voxels, levels_within_blocks
from scalenet_gp.pipelines.prediction.prediction import Prediction
from scalenet_gp.volumes import ImageLayout, MultiscaleArrayWriter

__all__ = ["LevelWork", "level_box", "levels_left"]


def levels_left(prediction: Prediction) -> list[int]:
    """Return the levels that are not made with the blocks, in the order in which they are made."""
    most = max(layout.levels for layout in prediction.layouts().values())
    return [level for level in range(1, most) if _with_level(prediction, level)]


def level_box(prediction: Prediction, level: int) -> Coordinate:
    """Return the shape of the boxes (world units, from the region's corner) in which a level is made.

    A box is whole chunks of the level in every product's volume, so that two boxes never share a chunk. It reads about
    as many voxels of the level before as a block has.

    Args:
        prediction: the opened job.
        level: one of :func:`levels_left`.
    """
    chunks, steps = [], []
    for product, layout in _with_level(prediction, level).items():
        size = prediction.voxel_sizes[product]
        chunks.append(size * Coordinate(layout.chunks) * Coordinate(fine_voxels(layout, level)))
        steps.append(fine_voxels(layout, level - 1))
    box = []
    for axis, (block, extent) in enumerate(zip(prediction.grid.block, prediction.grid.roi.shape, strict=True)):
        unit = math.lcm(*(int(chunk[axis]) for chunk in chunks))
        wanted = int(block) * max(step[axis] for step in steps)
        box.append(min(int(extent), unit * max(1, wanted // unit)))
    return Coordinate(box)


@final
class LevelWork:
    """Makes boxes of a level in the volumes of all products that lack it. Any number of threads may call it at once.

    Args:
        prediction: the opened job; the level before has been made.
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
        """Make a box. When this returns, the box is on the disk.

        Args:
            roi: the box, world units.

        Raises:
            OSError: the level before cannot be read, or the disk is full.
        """
        for volume, size in self._volumes:
            begin, end = ((corner - self._corner) / size for corner in (roi.begin, roi.end))
            coarsen(volume, self._level, begin, end)


def _with_level(prediction: Prediction, level: int) -> dict[str, ImageLayout]:
    """Return the layouts of the products that have a level which is not made with the blocks."""
    return {
        product: layout
        for product, layout in prediction.layouts().items()
        if levels_within_blocks(layout, prediction.block_voxels(product)) <= level < layout.levels
    }
