"""The blocks of a region: whole voxels and whole chunks of every output, so that no two of them share a chunk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from funlib.geometry import Coordinate, Roi

__all__ = ["Grid"]

_LONGER = 1.25
"""How much longer than wanted a block may be for more levels to be made with it."""


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

        Along each axis a block is as long as wanted, or longer by the few voxels, a quarter at most where that can be,
        with which it can be halved down to one chunk of every output, or to as few as possible: so many levels of a
        pyramid can be made with the block. A chunk has at most ``chunk`` voxels along an axis, and half of that at
        least. An axis of the region that is shorter is not divided.

        Args:
            roi: the region; whole voxels of every output.
            wanted: world units; whole voxels of every output.
            voxel_sizes: of the outputs, world units.
            chunk: voxels of the largest chunk along an axis; a block that is no longer is one chunk.
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
    whole = extent, {name: min(extent // size, largest) for name, size in sizes.items()}
    best, fewest = whole, 0
    for length in range(wanted, extent, math.lcm(*sizes.values())):
        if fewest == 1 or (fewest and length > wanted * _LONGER):
            break
        chunks = {name: _chunk(length // size, largest) for name, size in sizes.items()}
        if all(chunks.values()):
            left = max(_odd_part(length // size // chunks[name]) for name, size in sizes.items())
            if not fewest or left < fewest:
                best, fewest = (length, chunks), left
    return best


def _chunk(voxels: int, largest: int) -> int:
    """Voxels of the chunks that divide ``voxels`` best: with the fewest where halving ends; 0 if none do."""
    if voxels <= largest:
        return voxels
    chunks = (chunk for chunk in range(largest, (largest - 1) // 2, -1) if voxels % chunk == 0)
    return min(chunks, key=lambda chunk: _odd_part(voxels // chunk), default=0)


def _odd_part(number: int) -> int:
    """What is left when halving ends."""
    return number // (number & -number)
