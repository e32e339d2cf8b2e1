"""The blocks of a region: whole voxels and whole chunks of every output, so that no two of them share a chunk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from funlib.geometry import Coordinate, Roi

__all__ = ["Grid"]


@dataclass(frozen=True)
class Grid:
    """How a region is divided.

    Attributes:
        roi: the region, world units.
        block: shape of the blocks, world units; the last along an axis is as small as what is left.
        chunks: voxels of an output that are stored together, by its name.
    """

    roi: Roi
    block: Coordinate
    chunks: Mapping[str, Coordinate]

    @classmethod
    def fitting(cls, roi: Roi, wanted: Coordinate, voxel_sizes: Mapping[str, Coordinate], chunk: int = 64) -> Grid:
        """Blocks of about the shape that is wanted, and the chunks that divide them.

        Along each axis a block is as long as wanted, or longer by the few voxels that it takes to divide it into
        chunks of ``chunk`` voxels, or of half of that at least; or as long as the region, if that is shorter.

        Args:
            roi: the region; whole voxels of every output.
            wanted: world units; whole voxels of every output.
            voxel_sizes: of the outputs, world units.
            chunk: voxels of the largest chunk along an axis; what is smaller than half of it is one chunk.
        """
        along = [
            _divided(int(extent), int(length), {name: int(size[axis]) for name, size in voxel_sizes.items()}, chunk)
            for axis, (extent, length) in enumerate(zip(roi.shape, wanted, strict=True))
        ]
        block = Coordinate(length for length, _ in along)
        return cls(roi, block, {name: Coordinate(chunks[name] for _, chunks in along) for name in voxel_sizes})

    @property
    def shape(self) -> tuple[int, ...]:
        """How many blocks there are along each axis."""
        return tuple(-(-int(extent) // int(length)) for extent, length in zip(self.roi.shape, self.block, strict=True))


def _divided(extent: int, wanted: int, sizes: Mapping[str, int], largest: int) -> tuple[int, dict[str, int]]:
    """Length of the blocks along an axis, and voxels of a chunk of each output."""
    step = math.lcm(*sizes.values())
    if extent <= wanted:
        return extent, {name: min(extent // size, largest) for name, size in sizes.items()}
    for length in range(wanted, extent, step):
        chunks = {name: _chunk(length // size, largest) for name, size in sizes.items()}
        if all(
            chunk >= min(length // size, largest // 2)
            for chunk, size in zip(chunks.values(), sizes.values(), strict=True)
        ):
            return length, chunks
    return _divided(extent, extent, sizes, largest)


def _chunk(voxels: int, largest: int) -> int:
    """The largest number of voxels up to that of a chunk that divides ``voxels``."""
    return next(chunk for chunk in range(min(voxels, largest), 0, -1) if voxels % chunk == 0)
