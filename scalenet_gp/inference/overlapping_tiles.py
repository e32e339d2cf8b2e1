"""Tiles that overlap, and the blending of their predictions: for networks whose tiles do not agree with the whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError, LatticeError
from scalenet_gp.inference.seam import Seam

__all__ = ["OverlappingTiles", "TileIndex"]

TileIndex = tuple[int, ...]
"""The number of a tile along each axis."""


@final
@dataclass(frozen=True)
class OverlappingTiles:
    """Tiles of one shape that cover a region, each overlapping the next along every axis. Made by :meth:`covering`.

    The network sees as much at the border of the region as in its midst: the last tile ends with the region, and all
    overlaps along an axis are alike, to a voxel.

    Attributes:
        roi: the region, world units.
        tile: shape of every tile, world units.
        starts: begin of the tiles along each axis, world units from the begin of the region.

    Example:
        >>> from funlib.geometry import Coordinate, Roi
        >>> tiles = OverlappingTiles.covering(Roi((0,), (100,)), Coordinate(40), Coordinate(10), Coordinate(1))
        >>> [tiles.roi_of(index) for index in tiles]
        [[0:40] (40), [30:70] (40), [60:100] (40)]
        >>> tiles.touching(Roi((20,), (30,))), tiles.cost
        ([(0,), (1,)], 1.2)
    """

    roi: Roi
    tile: Coordinate
    starts: tuple[tuple[int, ...], ...]

    @classmethod
    def covering(cls, roi: Roi, shape: Coordinate, overlap: Coordinate, lattice: Coordinate) -> OverlappingTiles:
        """Return the fewest tiles that cover a region.

        Args:
            roi: the region, world units.
            shape: the shape of a tile; along an axis on which the region is shorter, the tile is as long as the region.
            overlap: the least overlap of two tiles along each axis; it does not count where there is one tile.
            lattice: tiles begin whole multiples of it from the region's begin. The other arguments are multiples.

        Raises:
            ArgumentError: an overlap is not above 0, or not smaller than the tile.
            LatticeError: a length is not a multiple of ``lattice``.
        """
        for axis, lengths in enumerate(zip(roi.shape, shape, overlap, lattice, strict=True)):
            extent, length, least, step = map(int, lengths)
            if extent > length and not 0 < least < length:
                raise ArgumentError(
                    f"tiles of {tuple(shape)} cannot overlap by {tuple(overlap)}: along axis {axis} an overlap is "
                    f"above 0 and below {length}"
                )
            if extent > length and any(number % step for number in (extent, length, least)):
                raise LatticeError(
                    f"a region of {tuple(roi.shape)}, tiles of {tuple(shape)} and an overlap of {tuple(overlap)} have "
                    f"to be multiples of {tuple(lattice)}"
                )
        tile = Coordinate(min(e, s) for e, s in zip(roi.shape, shape, strict=True))
        along = zip(roi.shape, tile, overlap, lattice, strict=True)
        return cls(roi, tile, tuple(_starts(*map(int, lengths)) for lengths in along))

    def __iter__(self) -> Iterator[TileIndex]:
        """Yield the index of every tile, the last axis fastest."""
        return itertools.product(*map(range, self.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of tiles along each axis."""
        return tuple(map(len, self.starts))

    @property
    def overlap(self) -> Coordinate:
        """The least overlap of two tiles along each axis, world units; 0 where there is one tile."""
        return Coordinate(
            length - max(np.diff(starts)) if len(starts) > 1 else 0
            for length, starts in zip(self.tile, self.starts, strict=True)
        )

    @property
    def cost(self) -> float:
        """The volume of all tiles, relative to that of the region: voxels that are computed for one that is kept."""
        return math.prod(self.shape) * math.prod(self.tile) / math.prod(self.roi.shape)

    def roi_of(self, index: Sequence[int]) -> Roi:
        """Return the world ROI of a tile."""
        begin = Coordinate(starts[i] for starts, i in zip(self.starts, index, strict=True))
        return Roi(self.roi.begin + begin, self.tile)

    def index_of(self, roi: Roi) -> TileIndex:
        """Return the index of the tile with this world ROI.

        Raises:
            ArgumentError: it is not a tile's.
        """
        begin = [int(b) for b in roi.begin - self.roi.begin]
        if roi.shape != self.tile or any(b not in starts for b, starts in zip(begin, self.starts, strict=True)):
            raise ArgumentError(f"{roi} is not one of the tiles of {self.tile} that begin at {self.starts}")
        return tuple(starts.index(b) for b, starts in zip(begin, self.starts, strict=True))

    def touching(self, roi: Roi) -> list[TileIndex]:
        """Return the tiles that have a part of ``roi``, the last axis fastest."""
        return list(itertools.product(*(np.flatnonzero(self.reach(axis, roi)).tolist() for axis in range(roi.dims))))

    def reach(self, axis: int, roi: Roi) -> NDArray[np.bool_]:
        """Return for every tile along an axis whether it has a part of ``roi`` there."""
        begin = np.array(self.starts[axis]) + self.roi.begin[axis]
        there: NDArray[np.bool_] = (begin < roi.end[axis]) & (begin + self.tile[axis] > roi.begin[axis])
        return there

    def shares(self, axis: int, roi: Roi, length: int) -> NDArray[np.float64]:
        """Return the share that each tile has of the blended voxels, along one axis; those of a voxel sum to 1.

        Within the overlap of two tiles the share falls from 1 to 0, linearly with the distance of the voxel's centre.
        The share of a tile in a voxel is the product of those along all axes.

        Args:
            axis: the axis.
            roi: the voxels, within the region; world units.
            length: length of a voxel.

        Returns:
            Shape (tiles that have a part of ``roi``, voxels) along the axis.
        """
        tile, starts = int(self.tile[axis]), np.array(self.starts[axis])
        begin = (starts + self.roi.begin[axis])[self.reach(axis, roi), None]
        ramp = tile if len(starts) == 1 else min(tile - int(np.diff(starts).min()), tile // 2)
        centre = np.arange(roi.begin[axis], roi.end[axis], length) + length / 2
        weights = np.clip(np.minimum(centre - begin, begin + tile - centre), 0, ramp)
        # row by row: numpy's own sum adds in an order that depends on the shape
        shares: NDArray[np.float64] = weights / sum(weights)
        return shares

    def blend(
        self, roi: Roi, voxel_size: Coordinate, read: Callable[[TileIndex, Roi], NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], Seam]:
        """Return the weighted mean of the tiles' predictions in a box, and their differences.

        A voxel depends on the tiles alone, not on the box: it has the same bits in every box. Sums are in float64, and
        tiles are added in the order of their indices.

        Args:
            roi: the box, within the region; whole voxels, world units.
            voxel_size: world units.
            read: returns a part (world ROI) of the prediction of a tile, shape (Z, Y, X).

        Returns:
            The mean, shape (Z, Y, X), and the seam: every overlap of two tiles that are neighbours along an axis counts
            with the voxels that lie in the box.
        """
        parts = {index: self.roi_of(index).intersect(roi) for index in self.touching(roi)}
        made = {index: read(index, part) for index, part in parts.items()}
        along = [
            dict(zip(np.flatnonzero(self.reach(axis, roi)).tolist(), self.shares(axis, roi, int(size)), strict=True))
            for axis, size in enumerate(voxel_size)
        ]
        blended = np.zeros(roi.shape / voxel_size)
        for index, part in parts.items():
            box, weight = _box(part, roi, voxel_size), np.ones(())
            for shares, i, voxels in zip(along, index, box, strict=True):
                weight = weight[..., None] * shares[i][voxels]
            blended[box] += weight * made[index]
        seam = Seam()
        for index, axis in itertools.product(parts, range(roi.dims)):
            behind = (*index[:axis], index[axis] + 1, *index[axis + 1 :])
            if behind in parts:
                seam += self._seam(axis, index, behind, parts, made, voxel_size)
        return blended.astype(np.float32), seam

    def _seam(
        self,
        axis: int,
        index: TileIndex,
        behind: TileIndex,
        parts: dict[TileIndex, Roi],
        made: dict[TileIndex, NDArray[np.float32]],
        voxel_size: Coordinate,
    ) -> Seam:
        """Return the differences of two tiles that are neighbours along ``axis``, within the box of ``parts``."""
        both = parts[index].intersect(parts[behind])
        if both.empty:
            return Seam()
        first, second = (made[i][_box(both, parts[i], voxel_size)].astype(np.float64) for i in (index, behind))
        apart = np.abs(first - second)
        size = int(voxel_size[axis])
        # the plane behind the middle of the whole overlap, of which the box may have a part
        overlap = self.roi_of(index).intersect(self.roi_of(behind))
        middle = (overlap.begin[axis] + overlap.shape[axis] // size // 2 * size - both.begin[axis]) // size
        cut = apart.take(range(middle, middle + 1) if 0 <= middle < apart.shape[axis] else (), axis)
        return Seam.of(apart, cut)


def _starts(extent: int, tile: int, overlap: int, step: int) -> tuple[int, ...]:
    """Return the begins of the fewest tiles along an axis, spread evenly on the lattice."""
    if extent == tile:
        return (0,)
    gaps = -(-(extent - tile) // (tile - overlap))
    return tuple(number * ((extent - tile) // step) // gaps * step for number in range(gaps + 1))


def _box(part: Roi, whole: Roi, voxel_size: Coordinate) -> tuple[slice, ...]:
    return ((part - whole.begin) / voxel_size).to_slices()
