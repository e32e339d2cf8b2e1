"""The memory that blocks take, by which their shape is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.blockwise import block_shape

__all__ = ["BASIN_BYTES", "CLASS_BYTES", "MUTEX_BYTES", "WATERSHED_BYTES", "Allowance", "BlockMemory"]

CLASS_BYTES = 192
"""Bytes of a voxel that components of a class take in a process: values, masks, distances, ids."""

WATERSHED_BYTES = 384
"""The same for a watershed, which has heights too."""

BASIN_BYTES = 222
"""The same for affinities of neighbours, their means, heights, basins and passes."""

MUTEX_BYTES = 132
"""The same for each offset of a mutex watershed, which sorts all pairs of voxels; one thread at a time does."""


@final
@dataclass(frozen=True, slots=True)
class Allowance:
    """Memory that blocks may take.

    Attributes:
        memory: bytes for the blocks of a process.
        processes: that do blocks.
        free: bytes that are free here, for all of them; None if they are elsewhere.
    """

    memory: int
    processes: int = 1
    free: int | None = None

    def check(self, needed: int) -> None:
        """Check that so many bytes are free for each process.

        Raises:
            ConfigError: they are not.
        """
        if self.free is not None and needed * self.processes > self.free:
            each = self.free / self.processes / 2**30
            raise ConfigError(
                f"blocks take {needed / 2**30:.3g} GiB in each of {self.processes} processes, and "
                f"{self.free / 2**30:.3g} GiB are free here: give --memory {0.9 * each:.2g}, or fewer --workers"
            )


@final
@dataclass(frozen=True, slots=True)
class BlockMemory:
    """The memory that the blocks of a process take.

    Attributes:
        voxel: bytes of a voxel of a block or its margin, for all threads of the process together.
        margin: voxels that are read around a block, per axis.

    Example:
        >>> BlockMemory(100, (2, 2, 2)).needed((8, 8, 8), (100, 100, 10))
        144000
    """

    voxel: int
    margin: tuple[int, ...]

    def needed(self, block: Sequence[int], shape: Sequence[int]) -> int:
        """Return the bytes for blocks of a shape, in a region of another."""
        grown = (min(n, b + 2 * m) for b, m, n in zip(block, self.margin, shape, strict=True))
        return self.voxel * math.prod(grown)

    def largest_block(
        self, shape: Sequence[int], chunks: Sequence[int], allowance: Allowance, field: str
    ) -> tuple[int, ...]:
        """Return the shape of the largest blocks that fit into memory with a margin around them.

        Args:
            shape: voxels of the region.
            chunks: voxels of a chunk.
            allowance: the memory.
            field: the options in the section ``segmentation``.

        Raises:
            ConfigError: not even a chunk fits; or more is allowed than is free, and taken.
        """
        memory, voxel = allowance.memory, -(-self.voxel // _COPIES)
        budget = memory
        while True:
            block = block_shape(shape, chunks, chunks, voxel, budget)
            needed = self.needed(block, shape)
            if needed <= memory or not any(self.margin):
                allowance.check(needed)
                return block
            if block == tuple(chunks):
                raise ConfigError(
                    f"blocks have a margin of {self.margin} voxels, by segmentation.{field}, and take "
                    f"{needed / 2**30:.3g} GiB of memory, of which {memory / 2**30:.3g} GiB are there: give more, or a "
                    "smaller closing, opening, reach or context"
                )
            budget = max(budget // 2, _COPIES * voxel * math.prod(chunks))


_COPIES = 6
"""Blocks that :func:`.block_shape` counts."""
