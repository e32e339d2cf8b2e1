"""The tiles of a prediction that are to be blended, kept on the disk until all blocks are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.inference import OverlappingTiles, Seam, TileIndex
from scalenet_gp.volumes import create_array, create_group, open_array

__all__ = ["TileStore"]

_CHUNK = {2: 512, 3: 64}
_SEAMS = "seams"
_NUMBERS = len(Seam().to_numbers())


@final
class TileStore:
    """Tiles of every product, float32, and the seams within the blocks that were blended.

    The tiles of a product lie side by side in one array, each in chunks of its own. Any number of processes and threads
    may read and write at once.

    Args:
        folder: the folder, which :meth:`create` made.
        tiles: the tiles.
        voxel_sizes: voxel size of each product, world units.
    """

    def __init__(self, folder: Path, tiles: OverlappingTiles, voxel_sizes: Mapping[str, Coordinate]) -> None:
        self._tiles = tiles
        self._sizes = voxel_sizes
        self._arrays = {product: open_array(_path(folder, product)) for product in voxel_sizes}
        self._seams = open_array(folder / _SEAMS)

    @staticmethod
    def create(
        folder: Path,
        tiles: OverlappingTiles,
        voxel_sizes: Mapping[str, Coordinate],
        channels: Mapping[str, int],
        blocks: Sequence[int],
        outputs: int,
    ) -> None:
        """Create the folder.

        Args:
            folder: the folder to make.
            tiles: the tiles.
            voxel_sizes: voxel size of each product, world units.
            channels: the channels of each product.
            blocks: the number of blocks along each axis.
            outputs: the number of outputs that have a seam.
        """
        create_group(folder, {})
        for product, size in voxel_sizes.items():
            chunk, pitch = _chunk(tiles, size), _pitch(tiles, size)
            shape = [count * length for count, length in zip(tiles.shape, pitch, strict=True)]
            create_array(_path(folder, product), (channels[product], *shape), (1, *chunk), np.dtype(np.float32))
        one = (*(1 for _ in blocks), outputs, _NUMBERS)
        create_array(folder / _SEAMS, (*blocks, outputs, _NUMBERS), one, np.dtype(np.float64))

    def write(self, product: str, roi: Roi, data: NDArray[np.float32]) -> None:
        """Write a tile. When this returns, it is on the disk.

        Args:
            product: name of the product.
            roi: the tile, world units.
            data: its voxels, (C, Z, Y, X).

        Raises:
            UnwritableDataError: it cannot be written, as on a full disk.
        """
        begin = self._begin(product, self._tiles.index_of(roi))
        box = (slice(b, b + n) for b, n in zip(begin, data.shape[1:], strict=True))
        self._arrays[product].write((slice(None), *box), data)

    def read(self, product: str, channel: int, index: TileIndex, roi: Roi) -> NDArray[np.float32]:
        """Return a channel of a part (world ROI) of a tile, (Z, Y, X).

        Raises:
            UnreadableDataError: it cannot be read.
        """
        inside = (roi - self._tiles.roi_of(index).begin) / self._sizes[product]
        box = (inside + Coordinate(self._begin(product, index))).to_slices()
        part: NDArray[np.float32] = self._arrays[product][(slice(channel, channel + 1), *box)][0]
        return part

    def record_seams(self, block: Sequence[int], seams: Sequence[Seam]) -> None:
        """Write the seam of each output within a block.

        Raises:
            UnwritableDataError: it cannot be written.
        """
        numbers = np.array([seam.to_numbers() for seam in seams])
        box = tuple(slice(i, i + 1) for i in block)
        self._seams.write((*box, slice(None), slice(None)), numbers.reshape(*(1 for _ in box), *numbers.shape))

    def seams(self) -> list[Seam]:
        """Return the seam of each output, over all blocks, always added in the same order.

        Raises:
            UnreadableDataError: they cannot be read.
        """
        numbers = self._seams[:]
        return [Seam.sum(numbers[..., output, :].reshape(-1, _NUMBERS)) for output in range(numbers.shape[-2])]

    def _begin(self, product: str, index: TileIndex) -> tuple[int, ...]:
        return tuple(i * length for i, length in zip(index, _pitch(self._tiles, self._sizes[product]), strict=True))


def _path(folder: Path, product: str) -> Path:
    return folder / product.replace("/", "_")


def _chunk(tiles: OverlappingTiles, size: Coordinate) -> tuple[int, ...]:
    return tuple(min(int(length), _CHUNK[tiles.roi.dims]) for length in tiles.tile / size)


def _pitch(tiles: OverlappingTiles, size: Coordinate) -> tuple[int, ...]:
    """Return the voxels from one tile to the next in the array: whole chunks."""
    lengths = zip(tiles.tile / size, _chunk(tiles, size), strict=True)
    return tuple(-(-int(length) // chunk) * chunk for length, chunk in lengths)
