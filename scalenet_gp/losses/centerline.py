"""The loss of centerlines, for thin and branching structures."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from scalenet_gp.errors import ArgumentError
from scalenet_gp.losses.masked_loss import Annotated, MaskedLoss

__all__ = ["CenterlineDice"]


@final
class CenterlineDice(MaskedLoss):
    """One minus soft clDice, averaged over the channels that are annotated (Shit et al. 2021, arXiv 2003.07311).

    clDice is the harmonic mean of the part of the predicted skeleton that lies in the target, and of the part of the
    target's skeleton that lies in the prediction. So a gap in a thin process counts by its length, not by its volume.
    Skeletons are those of the paper's algorithm 1: what an opening removes, gathered over repeated erosions. An erosion
    is the minimum over a voxel and its neighbors along the axes, a dilation the maximum over 3³ voxels. Voxels that are
    not annotated, or lie outside, take part in neither.

    It is meant to be added to a loss of overlaps, as in the paper. All samples of the batch are counted together.

    Args:
        iterations: number of erosions: the radius of the thickest structures in voxels, at least. The paper's range
            from 5 to 25.
        smoothing: number of voxels, of the class's mean weight, added to numerators and denominators. So a class that
            is absent and not predicted has the loss 0.

    Raises:
        ArgumentError: ``iterations`` is not a whole number from 1 up, or ``smoothing`` is not positive.

    Example:
        >>> line = torch.zeros(1, 1, 5, 7)
        >>> line[..., 2, :] = 1
        >>> gap = line.clone()
        >>> gap[..., 3] = 0
        >>> round(CenterlineDice(iterations=1)(gap, line, torch.ones_like(line)).item(), 3)
        0.067
    """

    def __init__(self, iterations: int = 5, smoothing: float = 1.0) -> None:
        super().__init__()
        if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
            raise ArgumentError(f"iterations has to be a whole number from 1 up, not {iterations!r}")
        if not smoothing > 0:
            raise ArgumentError(f"smoothing has to be positive, not {smoothing}: an absent class would divide by zero")
        self.iterations, self.smoothing = iterations, smoothing

    def compute(self, known: Annotated) -> Tensor:
        precision = self._part_within(known, known.prediction, known.target)
        sensitivity = self._part_within(known, known.target, known.prediction)
        return known.mean_of_classes(1 - 2 * precision * sensitivity / (precision + sensitivity))

    def _part_within(self, known: Annotated, volume: Tensor, other: Tensor) -> Tensor:
        """Return the part of a volume's skeleton that lies in another volume, for every class, (C,)."""
        skeleton = soft_skeleton(volume, known.mask, self.iterations)
        smoothing = self.smoothing * known.mean_weights()
        found, whole = (known.weigh(part).sum(known.axes) for part in (skeleton * other, skeleton))
        return (found + smoothing) / (whole + smoothing)


def soft_skeleton(volume: Tensor, mask: Tensor, iterations: int) -> Tensor:
    """Return the soft skeleton, (B, C, Z, Y, X), of a volume of values from 0 to 1; 0 where it is not annotated.

    Args:
        volume: (B, C, Z, Y, X) or (B, C, Y, X).
        mask: of the same shape, boolean: True where it is annotated.
        iterations: number of erosions.
    """
    skeleton = functional.relu(volume - _dilate(_erode(volume, mask), mask))
    for _ in range(iterations):
        volume = _erode(volume, mask)
        fringe = functional.relu(volume - _dilate(_erode(volume, mask), mask))
        skeleton = skeleton + (1 - skeleton) * fringe
    return skeleton


def _erode(volume: Tensor, mask: Tensor) -> Tensor:
    """Return the minimum over each voxel and its annotated neighbors along the axes."""
    dims = volume.ndim - 2
    pool = functional.max_pool3d if dims == 3 else functional.max_pool2d
    known = (-volume).masked_fill(~mask, -torch.inf)
    lines = [tuple(3 if axis == along else 1 for axis in range(dims)) for along in range(dims)]
    pooled = torch.stack([pool(known, line, stride=1, padding=tuple(k // 2 for k in line)) for line in lines])
    return (-pooled.amax(dim=0)).masked_fill(~mask, 0)


def _dilate(volume: Tensor, mask: Tensor) -> Tensor:
    """Return the maximum over the annotated of each voxel's 3³ neighbors."""
    pool = functional.max_pool3d if volume.ndim == 5 else functional.max_pool2d
    return pool(volume.masked_fill(~mask, -torch.inf), 3, stride=1, padding=1).masked_fill(~mask, 0)
