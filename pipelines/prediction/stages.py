"""What a prediction consists of: the blocks, then the levels that are not made with them, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import daisy.v2 as daisy
import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.pipelines.prediction.coarser_levels import level_box, levels_left
from scalenet_gp.pipelines.prediction.prediction import Prediction
from scalenet_gp.pipelines.prediction.unfinished import skipped_blocks
from scalenet_gp.volumes import open_array

__all__ = ["BlockStage", "block_stages"]

_RETRIES = 3
_RESTARTS = 3
"""How often a worker's place is filled again, on average, before daisy gives up."""
_TIMEOUT = 6 * 3600.0
"""Seconds after which a worker counts as hanging in a block, and is ended."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class BlockStage:
    """Blocks of which none waits for another.

    Attributes:
        title: what is shown.
        level: that is made; None for the prediction itself.
        roi: what is divided, world units.
        block: shape of the blocks, world units.
        tracking: the folder in which daisy keeps which are done.
        skipped: nonzero for the blocks that are left out, of the shape of the grid; None if none are.
    """

    title: str
    level: int | None
    roi: Roi
    block: Coordinate
    tracking: Path
    skipped: NDArray[np.uint8] | None = None

    @property
    def blocks(self) -> int:
        """How many there are."""
        lengths = zip(self.roi.shape, self.block, strict=True)
        return math.prod(-(-int(extent) // int(length)) for extent, length in lengths)

    def done(self) -> int:
        """How many need no more work: they are done, or left out."""
        settled = [] if self.skipped is None else [self.skipped]
        if (self.tracking / "done").exists():
            settled.append(open_array(self.tracking / "done")[:])
        return int(np.any(settled, axis=0).sum())

    def task(self, workers: int) -> daisy.Task:
        """What daisy hands out, to ``workers`` processes; it lacks the function that does a block."""
        block = Roi((0,) * self.block.dims, self.block)
        return daisy.Task(
            self.title.replace(" ", "_"),
            self.roi,
            block,
            block,  # what is read is another volume: no block waits for another
            read_write_conflict=False,
            fit="shrink",
            max_workers=max(workers, 1),
            max_retries=_RETRIES,
            max_worker_restarts=max(10, _RESTARTS * workers),
            timeout=_TIMEOUT,
            tracking_path=str(self.tracking),
            skip_mask=self.skipped,
        )


def block_stages(prediction: Prediction) -> Iterator[BlockStage]:
    """The steps of a prediction that was begun; each needs those before it to be whole.

    Raises:
        OSError: the mask of what is left out cannot be read.
    """
    grid, job = prediction.grid, prediction.job
    yield BlockStage("predicting", None, grid.roi, grid.block, job.tracking, skipped_blocks(job))
    for level in levels_left(prediction):
        yield BlockStage(f"level {level}", level, grid.roi, level_box(prediction, level), job.tracking / f"s{level}")
