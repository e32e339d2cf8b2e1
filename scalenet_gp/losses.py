"""Losses of masked, multi-label predictions.

All of them are modules called with (prediction, target, mask), each (B, C, Z, Y, X): probabilities in [0, 1], targets in
[0, 1], and 1 where the class of that channel is annotated. What is not annotated counts neither above nor below the
fraction bar; where nothing is, the loss is zero and so is its gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BinaryCrossEntropy", "CrossEntropyDice", "Dice"]


class BinaryCrossEntropy(nn.Module):
    """The mean binary cross-entropy of the annotated voxels, over all channels together."""

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        weight = _weight(prediction, target, mask)
        total = functional.binary_cross_entropy(prediction, target.to(prediction), weight=weight, reduction="sum")
        return total / weight.sum().clamp(min=1)


class Dice(nn.Module):
    """One minus the soft Dice coefficient of the annotated voxels, averaged over the channels that have any.

    Milletari et al. 2016 (arXiv 1606.04797), with sums instead of squares in the denominator. A channel counts all
    samples of the batch together, so that a class that one sample lacks does not dominate.

    Args:
        smoothing: added to numerator and denominator, in voxels: a class that is absent and not predicted has no loss.
    """

    def __init__(self, smoothing: float = 1.0) -> None:
        super().__init__()
        if smoothing <= 0:
            raise ValueError(f"smoothing has to be positive, not {smoothing}: an absent class would divide by zero")
        self.smoothing = smoothing

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        weight = _weight(prediction, target, mask)
        target = target.to(prediction)
        axes = (0, *range(2, prediction.ndim))
        overlap = (prediction * target * weight).sum(axes)
        volume = ((prediction + target) * weight).sum(axes)
        dice = (2 * overlap + self.smoothing) / (volume + self.smoothing)
        annotated = (weight.sum(axes) > 0).to(prediction)
        return ((1 - dice) * annotated).sum() / annotated.sum().clamp(min=1)


class CrossEntropyDice(nn.Module):
    """Binary cross-entropy plus Dice loss: the one for each voxel, the other against the rarity of a class."""

    def __init__(self) -> None:
        super().__init__()
        self.cross_entropy = BinaryCrossEntropy()
        self.dice = Dice()

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return self.cross_entropy(prediction, target, mask) + self.dice(prediction, target, mask)


def _weight(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The mask as weights.

    Raises:
        ValueError: the three are not of one shape.
    """
    if not prediction.shape == target.shape == mask.shape:
        shapes = ", ".join(str(tuple(t.shape)) for t in (prediction, target, mask))
        raise ValueError(f"prediction, target and mask have to have one shape (B, C, Z, Y, X), not {shapes}")
    return (mask > 0).to(dtype=prediction.dtype, device=prediction.device, memory_format=torch.contiguous_format)
