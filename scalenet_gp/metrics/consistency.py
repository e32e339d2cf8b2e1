"""Consistency of a prediction with itself, without annotation: volume fractions of parts, and neighbouring planes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import Any, final

import numpy as np

from scalenet_gp.errors import DataError
from scalenet_gp.metrics.confusion import ConfusionCounts

__all__ = ["Consistency", "VolumeFractions", "compare_neighbours"]


@final
@dataclass(frozen=True, slots=True)
class VolumeFractions:
    """The share of a class in each of several sub-volumes, and how stable it is.

    Attributes:
        shares: of the voxels of each sub-volume that are of the class.

    Example:
        >>> fractions = VolumeFractions((0.25, 0.75))
        >>> fractions.mean, fractions.deviation, fractions.variation
        (0.5, 0.25, 0.5)
    """

    shares: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """The mean share; NaN without sub-volumes."""
        return fmean(self.shares) if self.shares else math.nan

    @property
    def deviation(self) -> float:
        """The standard deviation over sub-volumes; NaN without any."""
        return pstdev(self.shares) if self.shares else math.nan

    @property
    def variation(self) -> float:
        """The standard deviation as a share of the mean, the coefficient of variation; NaN where there is no class."""
        return self.deviation / self.mean if self.shares and self.mean else math.nan


@final
@dataclass(frozen=True, slots=True)
class Consistency:
    """The consistency of the voxels of one class.

    Attributes:
        fractions: the shares of sub-volumes.
        within: planes next to each other within blocks, compared voxel by voxel.
        across: the same on the two sides of where blocks meet. Where blocks leave no seams, these are as alike.
        other: the prediction and another one, where they overlap; or planes where they meet.

    Example:
        >>> Consistency(VolumeFractions((0.1, 0.3)), within=ConfusionCounts(3, 1, 1)).to_json()["dice_within_blocks"]
        0.75
    """

    fractions: VolumeFractions = field(default_factory=VolumeFractions)
    within: ConfusionCounts = field(default_factory=ConfusionCounts)
    across: ConfusionCounts = field(default_factory=ConfusionCounts)
    other: ConfusionCounts | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON can hold them, with None for those that are not defined."""
        fractions = self.fractions
        dice = {name: counts.scores["dice"] for name, counts in (("within", self.within), ("across", self.across))}
        numbers = {
            "fraction": fractions.mean,
            "fraction_deviation": fractions.deviation,
            "fraction_variation": fractions.variation,
            "dice_within_blocks": dice["within"],
            "dice_across_blocks": dice["across"],
        }
        if self.other is not None:
            numbers["dice_with_other"] = self.other.scores["dice"]
        found: dict[str, Any] = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        return found | {"subvolumes": len(fractions.shares)}


def compare_neighbours(mask: np.ndarray, shape: Sequence[int] | None = None) -> tuple[ConfusionCounts, ConfusionCounts]:
    """Return the counts of every pair of planes next to each other, along every axis.

    Args:
        mask: boolean, of a block, (z, y, x) or (y, x), with one voxel more at the end of every axis along which the
            volume goes on.
        shape: voxels of the block; all of ``mask`` unless given.

    Returns:
        The counts within the block, and of its last planes with those behind it. Each voxel of a plane that is of the
        class counts as true for the one in front of it.

    Raises:
        DataError: the mask is smaller than the block.

    Example:
        >>> mask = np.array([[1, 1, 0, 1]], bool)
        >>> [counts.scores["dice"] for counts in compare_neighbours(mask, (1, 3))]
        [0.6666666666666666, 0.0]
    """
    extents = mask.shape if shape is None else tuple(shape)
    if any(n < length or n > length + 1 for n, length in zip(mask.shape, extents, strict=True)):
        raise DataError(
            f"a mask of the shape {mask.shape} does not hold a block of {extents} with a voxel more at most"
        )
    within, across = ConfusionCounts(), ConfusionCounts()
    for axis, length in enumerate(extents):
        inner = tuple(slice(0, n) for n in extents)
        along = np.moveaxis(mask[(*inner[:axis], slice(None), *inner[axis + 1 :])], axis, 0)
        within += _alike(along[: length - 1], along[1:length])
        across += _alike(along[length - 1 : -1], along[length:]) if len(along) > length else ConfusionCounts()
    return within, across


def _alike(one: np.ndarray, other: np.ndarray) -> ConfusionCounts:
    return ConfusionCounts.count(one, other, np.ones(one.shape, bool))
