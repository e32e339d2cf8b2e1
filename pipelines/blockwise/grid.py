"""The blocks of a region: whole voxels and whole chunks of every output, so that two blocks never share a chunk."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from funlib.geometry import Coordinate, Roi

__all__ = ["Grid", "tiles"]

_LONGER = 1.25
"""Largest ratio of a block's length to the wanted one, where a longer block has more levels made with it."""


@dataclass(frozen=True)
class Grid:
    """A region divided into blocks.

    Attributes:
        roi: region, world units.
        block: shape of a block, world units; the last one along an axis is as small as the rest.
        chunks: shape of a chunk, voxels, by output.

    Example:
        >>> grid = Grid.fitting(Roi((0, 0), (900, 500)), Coordinate(400, 400), {"out": Coordinate(4, 4)}, chunk=50)
        >>> grid.shape, grid.block, grid.chunks["out"]
        ((3, 2), (400, 400), (50, 50))
    """

    roi: Roi
    block: Coordinate
    chunks: Mapping[str, Coordinate]

    @classmethod
    def fitting(cls, roi: Roi, wanted: Coordinate, voxel_sizes: Mapping[str, Coordinate], chunk: int = 64) -> Grid:
        """Return blocks of about the wanted shape, and the chunks that divide them.

        A block is as long as wanted, or a few voxels longer (a quarter at most where possible), so that it can be
        halved down to one chunk of every output, or to as few as possible: so many levels of a pyramid can be made
        with the block. A chunk has at most ``chunk`` voxels along an axis, and at least half of that. An axis of the
        region that is shorter is not divided.

        Args:
            roi: region; whole voxels of every output.
            wanted: wanted shape of a block, world units; whole voxels of every output.
            voxel_sizes: voxel size of each output, world units.
            chunk: voxels of the largest chunk along an axis; a shorter block is one chunk.
        """
        along = [
            _divided(int(extent), int(length), {name: int(size[axis]) for name, size in voxel_sizes.items()}, chunk)
            for axis, (extent, length) in enumerate(zip(roi.shape, wanted, strict=True))
        ]
        block = Coordinate(length for length, _ in along)
        return cls(roi, block, {name: Coordinate(chunks[name] for _, chunks in along) for name in voxel_sizes})

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of blocks along each axis."""
        return tuple(-(-int(extent) // int(length)) for extent, length in zip(self.roi.shape, self.block, strict=True))


def tiles(roi: Roi, shape: Coordinate) -> Iterator[Roi]:
    """Yield boxes of ``shape`` that tile ``roi``; the last one along an axis is as small as the rest.

    Example:
        >>> [box.shape for box in tiles(Roi((0,), (5,)), Coordinate(3))]
        [(3,), (2,)]
    """
    starts = (range(b, e, s) for b, e, s in zip(roi.begin, roi.end, shape, strict=True))
    for begin in itertools.product(*starts):
        yield Roi(begin, shape).intersect(roi)


def _divided(extent: int, wanted: int, sizes: Mapping[str, int], largest: int) -> tuple[int, dict[str, int]]:
    """Return the length of the blocks along an axis, and the voxels of a chunk of each output."""
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
    """Return the chunk length with the fewest chunks in ``voxels`` where halving ends; 0 if none divides it."""
    if voxels <= largest:
        return voxels
    chunks = (chunk for chunk in range(largest, (largest - 1) // 2, -1) if voxels % chunk == 0)
    return min(chunks, key=lambda chunk: _odd_part(voxels // chunk), default=0)


def _odd_part(number: int) -> int:
    """Return the largest odd divisor."""
    return number // (number & -number)
