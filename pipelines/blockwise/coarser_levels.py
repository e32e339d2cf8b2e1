"""The pyramids of the outputs: the finer levels with every block, the coarser ones, small by then, at the end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from scalenet_gp.nodes.volumes.block_volume import BlockVolume
from scalenet_gp.nodes.volumes.volume_layout import VolumeLayout
from scalenet_gp.pipelines.blockwise.prediction import Prediction
from scalenet_gp.pipelines.progress import progress_bar

__all__ = ["coarsen", "finish_levels", "levels_within_blocks"]

_CHUNKS_AT_A_TIME = 4


def levels_within_blocks(layout: VolumeLayout, block: Sequence[int]) -> int:
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


def coarsen(volume: BlockVolume, level: int, begin: Sequence[int], end: Sequence[int]) -> None:
    """Make the part of a level that lies within voxels ``begin`` to ``end`` of the finest one."""
    factor = _factor(volume.layout, level)
    first, past = ([int(corner) // f for corner, f in zip(edge, factor, strict=True)] for edge in (begin, end))
    volume.coarsen(level, first, [p - f for f, p in zip(first, past, strict=True)])


def finish_levels(prediction: Prediction) -> None:
    """Make the levels that were not made with the blocks; made anew if they are there.

    Raises:
        OSError: the disk is full.
    """
    todo = []
    for product, folder in prediction.folders():
        volume = BlockVolume.open(folder)
        done = levels_within_blocks(volume.layout, prediction.block_voxels(product))
        todo += [(volume, level) for level in range(done, volume.layout.levels)]
    if not todo:
        return
    with progress_bar("pyramids", len(todo)) as advance, ThreadPoolExecutor(_CHUNKS_AT_A_TIME) as pool:
        for volume, level in todo:
            whole, chunks = volume.levels[level].shape, volume.layout.chunks
            begins = itertools.product(*(range(0, n, c) for n, c in zip(whole, chunks, strict=True)))

            def fill(begin: tuple[int, ...], volume: BlockVolume = volume, level: int = level) -> None:
                shape = np.minimum(volume.layout.chunks, np.subtract(volume.levels[level].shape, begin))
                volume.coarsen(level, begin, shape.tolist())

            for _ in pool.map(fill, begins):
                pass
            advance("")


def _factor(layout: VolumeLayout, level: int) -> tuple[int, ...]:
    """Voxels of the finest level that make one of ``level``, along each axis."""
    return tuple(int(n) for n in np.prod(layout.factors[:level], axis=0))
