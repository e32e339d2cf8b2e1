"""Losses of overlap between prediction and target."""

from __future__ import annotations

from typing import final

from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.losses.masked_loss import Annotated, MaskedLoss

__all__ = ["Dice", "Tversky"]


@final
class Dice(MaskedLoss):
    """One minus the soft Dice coefficient of the annotated voxels, averaged over the channels that have any.

    Milletari et al. 2016 (arXiv 1606.04797), with sums instead of squares in the denominator. A channel counts all
    samples of the batch together, so that a class that one sample lacks does not dominate.

    Args:
        smoothing: added to numerator and denominator, in voxels: a class that is absent and not predicted has no loss.

    Raises:
        ValueError: ``smoothing`` is not positive.

    Example:
        >>> import torch
        >>> Dice()(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).item()
        0.0
    """

    def __init__(self, smoothing: float = 1.0) -> None:
        super().__init__()
        if not smoothing > 0:
            raise ArgumentError(f"smoothing has to be positive, not {smoothing}: an absent class would divide by zero")
        self.smoothing = smoothing

    def compute(self, known: Annotated) -> Tensor:
        overlap = (known.prediction * known.target).sum(known.axes)
        volume = (known.prediction + known.target).sum(known.axes)
        return known.mean_of_classes(1 - (2 * overlap + self.smoothing) / (volume + self.smoothing))


@final
class Tversky(MaskedLoss):
    """One minus the Tversky index of the annotated voxels, averaged over the channels that have any.

    Salehi et al. 2017 (arXiv 1706.05721), whose letters these are: TP / (TP + alpha FP + beta FN). With alpha and beta
    0.5 it is the Dice loss (of half the smoothing). A channel counts all samples of the batch together.

    With ``gamma`` it is the focal Tversky loss (Abraham and Khan 2019, arXiv 1810.07842): the power 1 / gamma of each
    channel's loss. They recommend 4/3, which makes more of channels with a small loss; they also name the weights the
    other way round.

    Args:
        alpha: what a false positive counts.
        beta: what a false negative counts; more than ``alpha`` for rare classes, so that they are found.
        gamma: from 1, where it changes nothing.
        smoothing: added to numerator and denominator, in voxels: a class that is absent and not predicted has no loss.

    Raises:
        ValueError: ``alpha`` or ``beta`` is negative, ``gamma`` below 1, ``smoothing`` not positive.

    Example:
        >>> Tversky(alpha=0.4, beta=0.6)
        Tversky(alpha=0.4, beta=0.6, gamma=1.0, smoothing=1.0)
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, gamma: float = 1.0, smoothing: float = 1.0) -> None:
        super().__init__()
        if not (alpha >= 0 and beta >= 0):
            raise ArgumentError(f"alpha={alpha} and beta={beta} may not be negative")
        if not gamma >= 1:
            raise ArgumentError(f"gamma has to be from 1 up, not {gamma}; the loss is taken to the power 1 / gamma")
        if not smoothing > 0:
            raise ArgumentError(f"smoothing has to be positive, not {smoothing}: an absent class would divide by zero")
        self.alpha, self.beta, self.gamma, self.smoothing = alpha, beta, gamma, smoothing

    def compute(self, known: Annotated) -> Tensor:
        prediction, target = known.prediction, known.target
        found = (prediction * target).sum(known.axes) + self.smoothing
        false_positive = (prediction * (1 - target)).sum(known.axes)
        false_negative = ((1 - prediction) * target).sum(known.axes)
        loss = 1 - found / (found + self.alpha * false_positive + self.beta * false_negative)
        if self.gamma != 1:
            # the slope of a root is infinite at 0, where there is nothing left to learn
            some = loss > 0
            loss = loss.where(some, 1).pow(1 / self.gamma).where(some, 0)
        return known.mean_of_classes(loss)
