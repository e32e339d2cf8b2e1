"""The Dice coefficient of a class at every threshold, from one pass over a prediction."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from scalenet_gp.errors import ArgumentError
from scalenet_gp.metrics.confusion import ConfusionCounts

__all__ = ["SWEPT_THRESHOLDS", "ThresholdSweep"]

SWEPT_THRESHOLDS = tuple(step / 100 for step in range(1, 100))
"""The thresholds that are compared: 0.01 to 0.99."""


@final
class ThresholdSweep:
    """Counts the voxels of a class between each two of :data:`SWEPT_THRESHOLDS`, block by block.

    The counts at every threshold follow from these, as :func:`.update_scores` counts them.

    Example:
        >>> sweep = ThresholdSweep()
        >>> sweep.update(np.array([0.9, 0.6, 0.4, 0.1]), np.array([1, 1, 1, 0]), np.ones(4))
        >>> sweep.counts(0.5).scores["dice"], sweep.best, sweep.counts(sweep.best).scores["dice"]
        (0.8, 0.4, 1.0)
    """

    def __init__(self) -> None:
        self._true, self._other = (np.zeros(len(SWEPT_THRESHOLDS) + 1, np.int64) for _ in range(2))

    def update(self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray) -> None:
        """Add the voxels of a block.

        Args:
            prediction: probabilities, in any shape. One that is not a number is below every threshold.
            target: above 0 where a voxel is of the class, in the same shape.
            mask: above 0 where the class is annotated, in the same shape.
        """
        known = mask > 0
        values, true = prediction[known], target[known] > 0
        values = np.nan_to_num(values.astype(np.result_type(values, np.float32), copy=False), nan=-1)
        reached = np.searchsorted(np.array(SWEPT_THRESHOLDS, values.dtype), values, side="right")
        self._true += np.bincount(reached[true], minlength=len(self._true))
        self._other += np.bincount(reached[~true], minlength=len(self._other))

    def counts(self, threshold: float) -> ConfusionCounts:
        """Return the counts at one of the thresholds.

        Raises:
            ArgumentError: it is not one of them.
        """
        if threshold not in SWEPT_THRESHOLDS:
            raise ArgumentError(f"threshold={threshold} was not swept; 0.01, 0.02, ..., 0.99 were")
        first = SWEPT_THRESHOLDS.index(threshold) + 1
        hit = int(self._true[first:].sum())
        return ConfusionCounts(hit, int(self._other[first:].sum()), int(self._true.sum()) - hit)

    @property
    def dice(self) -> np.ndarray:
        """The Dice coefficient at each threshold; NaN where nothing is of the class, nor predicted."""
        return np.array([self.counts(threshold).scores["dice"] for threshold in SWEPT_THRESHOLDS])

    @property
    def best(self) -> float:
        """The threshold of the largest Dice coefficient, of several the nearest to 0.5; NaN without true voxels."""
        if not self._true.any():
            return math.nan
        dice = self.dice
        return min(np.array(SWEPT_THRESHOLDS)[dice == np.nanmax(dice)].tolist(), key=lambda one: abs(one - 0.5))
