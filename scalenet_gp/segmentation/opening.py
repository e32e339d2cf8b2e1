"""Morphological opening and closing by a ball, exact for any voxel size and any tiling."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import final

import numpy as np

from scalenet_gp.segmentation.distances import common_step, squared_distances

__all__ = ["BallClosing", "BallOpening"]


@final
@dataclass(frozen=True)
class BallOpening:
    """Opens masks: a voxel stays if it lies in a ball of voxels that are all in the mask.

    A ball is the voxels whose centres are at most a radius from that of its middle. Voxels beyond the array count as
    in the mask. So a part of an array has the result of the whole except for a margin along its borders.

    Args:
        radius: of the ball, nm.
        voxel_size: nm, per axis.

    Example:
        >>> mask = np.ones((5, 9), bool)
        >>> mask[:2, 4:] = mask[3:, 4:] = False  # a thin arm
        >>> BallOpening(Fraction(8), (Fraction(8), Fraction(8)))(mask).sum(axis=0).tolist()
        [5, 5, 5, 5, 1, 0, 0, 0, 0]
    """

    radius: Fraction
    voxel_size: tuple[Fraction, ...]

    @property
    def margin(self) -> tuple[int, ...]:
        """The voxels around a box that decide about those in it, per axis."""
        return tuple(2 * reach for reach in self._reach)

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """Return the opened mask, boolean.

        Args:
            mask: boolean, (z, y, x) or (y, x).
        """
        if self.radius == 0:
            return mask
        eroded = self._beyond(mask)
        return ~self._beyond(~eroded)

    def _beyond(self, mask: np.ndarray) -> np.ndarray:
        """Return the voxels of a mask that are farther than the radius from every voxel that is not in it."""
        return squared_distances(mask, self.voxel_size) > np.float32(self._limit)

    @property
    def _reach(self) -> tuple[int, ...]:
        return tuple(math.floor(self.radius / size) for size in self.voxel_size)

    @cached_property
    def _limit(self) -> float:
        """A square that parts those of distances up to the radius from all larger ones, in steps.

        It lies in the middle between two squares of distances that occur, so that rounding cannot change the side.
        """
        step = common_step(self.voxel_size)
        inside = (self.radius / step) ** 2
        axes = [
            [(count * int(size / step)) ** 2 for count in range(reach + 2)]
            for reach, size in zip(self._reach, self.voxel_size, strict=True)
        ]
        squares = {sum(parts) for parts in itertools.product(*axes)}
        below = max(square for square in squares if square <= inside)
        above = min(square for square in squares if square > inside)
        return (below + above) / 2


@final
@dataclass(frozen=True)
class BallClosing:
    """Closes masks: a voxel outside stays outside if it lies in a ball of voxels that are all outside.

    So it fills gaps, cracks and cavities that such a ball does not fit into. It is the opening of the complement: see
    :class:`BallOpening` for balls and margins. Voxels beyond the array count as outside.

    Args:
        radius: of the ball, nm.
        voxel_size: nm, per axis.

    Example:
        >>> mask = np.array([[1, 1, 0, 1, 1, 0, 0, 0, 1]] * 3, bool)  # a crack and a wider gap
        >>> BallClosing(Fraction(8), (Fraction(8), Fraction(8)))(mask)[1].astype(int).tolist()
        [1, 1, 1, 1, 1, 0, 0, 0, 1]
    """

    radius: Fraction
    voxel_size: tuple[Fraction, ...]

    @property
    def margin(self) -> tuple[int, ...]:
        """The voxels around a box that decide about those in it, per axis."""
        return self._opening.margin

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """Return the closed mask, boolean.

        Args:
            mask: boolean, (z, y, x) or (y, x).
        """
        if self.radius == 0:
            return mask
        around = [(length // 2, length // 2) for length in self.margin]  # balls may lie across the border
        inner = tuple(slice(length, length + n) for (length, _), n in zip(around, mask.shape, strict=True))
        return ~self._opening(~np.pad(mask, around))[inner]

    @cached_property
    def _opening(self) -> BallOpening:
        return BallOpening(self.radius, self.voxel_size)
