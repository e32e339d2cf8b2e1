"""Boundary F1: how near predicted boundaries lie to true ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalenet_gp.errors import ArgumentError, DataError

__all__ = ["BoundaryCounts", "count_boundaries"]


@dataclass(frozen=True, slots=True)
class BoundaryCounts:
    """Voxels at boundaries that lie near the other ones, and the scores that follow. Counts of blocks add up.

    Attributes:
        predicted: voxels at predicted boundaries.
        predicted_near: those of them within the tolerance of a true boundary.
        true: voxels at true boundaries.
        true_near: those of them within the tolerance of a predicted boundary.

    Example:
        >>> BoundaryCounts(predicted=10, predicted_near=8, true=20, true_near=16).f1
        0.8
    """

    predicted: int = 0
    predicted_near: int = 0
    true: int = 0
    true_near: int = 0

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        return BoundaryCounts(
            self.predicted + other.predicted,
            self.predicted_near + other.predicted_near,
            self.true + other.true,
            self.true_near + other.true_near,
        )

    @property
    def precision(self) -> float:
        """The share of predicted boundaries that lie near true ones; NaN if there are none."""
        return _ratio(self.predicted_near, self.predicted)

    @property
    def recall(self) -> float:
        """The share of true boundaries that lie near predicted ones; NaN if there are none."""
        return _ratio(self.true_near, self.true)

    @property
    def f1(self) -> float:
        """The harmonic mean of both; 0 if only one side has boundaries, NaN if neither has."""
        below = self.predicted_near * self.true + self.true_near * self.predicted
        return _ratio(2 * self.predicted_near * self.true_near, below, 0.0 if self.predicted or self.true else math.nan)


def count_boundaries(
    truth: np.ndarray,
    segmentation: np.ndarray,
    voxel_size: Sequence[float],
    tolerance: float,
    mask: np.ndarray | None = None,
    inner: tuple[slice, ...] | None = None,
) -> BoundaryCounts:
    """Return the counts of boundary voxels: those with a neighbour, across a face, of another id.

    Distances are those of voxel centres. The border of the arrays is not a boundary.

    Source: Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013, with a tolerance
    in nm.

    Args:
        truth: true ids, 0 for none, (z, y, x) or (y, x).
        segmentation: predicted ids, in the same shape.
        voxel_size: nm.
        tolerance: nm.
        mask: above 0 where the truth is annotated, in the same shape; everywhere if None. Faces to other voxels are not
            boundaries.
        inner: the part of the arrays whose boundaries are counted; all of it if None. If a block has a margin of the
            tolerance and one voxel about this part, the counts of blocks add up to those of the whole.

    Raises:
        DataError: shapes that differ.
        ArgumentError: a tolerance below 0.

    Example:
        >>> truth, shifted = np.repeat([1, 2], [4, 4])[None], np.repeat([1, 2], [5, 3])[None]
        >>> count_boundaries(truth, shifted, (8, 8), tolerance=8)
        BoundaryCounts(predicted=2, predicted_near=2, true=2, true_near=2)
        >>> count_boundaries(truth, shifted, (8, 8), tolerance=0).f1
        0.5
    """
    if truth.shape != segmentation.shape or (mask is not None and mask.shape != truth.shape):
        shapes = f"the truth has the shape {truth.shape}, the segmentation {segmentation.shape}"
        raise DataError(f"{shapes}{'' if mask is None else f', the mask {mask.shape}'}; they have to be the same")
    if not tolerance >= 0:
        raise ArgumentError(f"tolerance={tolerance} nm has to be 0 or above")
    known = np.ones(truth.shape, bool) if mask is None else mask > 0
    within = (slice(None),) * truth.ndim if inner is None else inner
    true, predicted = (_boundary(ids, known) for ids in (truth, segmentation))
    near_true, near_predicted = (_near(voxels, voxel_size, tolerance) for voxels in (true, predicted))
    counts = (predicted, predicted & near_true, true, true & near_predicted)
    return BoundaryCounts(*(int(np.count_nonzero(voxels[within])) for voxels in counts))


def _boundary(ids: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the voxels with a known neighbour, across a face, of another id."""
    found = np.zeros(ids.shape, bool)
    for axis in range(ids.ndim):
        along, sure, at = (np.moveaxis(array, axis, 0) for array in (ids, known, found))
        differ = (along[1:] != along[:-1]) & sure[1:] & sure[:-1]
        at[1:] |= differ
        at[:-1] |= differ
    return found


def _near(voxels: np.ndarray, voxel_size: Sequence[float], tolerance: float) -> np.ndarray:
    """Return where a voxel's centre is within the tolerance of the centre of one of ``voxels``."""
    if not voxels.any():
        return np.zeros_like(voxels)
    from edt import edtsq  # slow to import

    squared = edtsq((~voxels).view(np.uint8), anisotropy=tuple(map(float, voxel_size)), black_border=False, parallel=1)
    near: np.ndarray = squared <= tolerance**2 * (1 + 1e-6)  # in single precision
    return near


def _ratio(above: float, below: float, otherwise: float = math.nan) -> float:
    return above / below if below else otherwise
