"""Work on volumes block by block, by many processes, resumable."""

from scalenet_gp.pipelines.blockwise.block_shape import block_shape
from scalenet_gp.pipelines.blockwise.engine import Workers, run
from scalenet_gp.pipelines.blockwise.files import block_file
from scalenet_gp.pipelines.blockwise.grid import Grid, tiles
from scalenet_gp.pipelines.blockwise.job import BlockJob
from scalenet_gp.pipelines.blockwise.levels import coarsen, fine_voxels, level_boxes, levels_within_blocks
from scalenet_gp.pipelines.blockwise.records import (
    BlockTime,
    UnfinishedBlocksError,
    read_times,
    record_time,
    total_seconds,
)
from scalenet_gp.pipelines.blockwise.task import BlockStage, BlockTask, WorkFolder
from scalenet_gp.pipelines.blockwise.worker import run_worker

__all__ = [
    "BlockJob",
    "BlockStage",
    "BlockTask",
    "BlockTime",
    "Grid",
    "UnfinishedBlocksError",
    "WorkFolder",
    "Workers",
    "block_file",
    "block_shape",
    "coarsen",
    "fine_voxels",
    "level_boxes",
    "levels_within_blocks",
    "read_times",
    "record_time",
    "run",
    "run_worker",
    "tiles",
    "total_seconds",
]
