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

    It is that of Milletari et al. 2016 (arXiv 1606.04797), with sums instead of squares in the denominator. All samples
    of the batch are counted together, so that a class that one sample lacks does not dominate.

    Args:
        smoothing: number of voxels, of the class's mean weight, added to numerator and denominator. So a class that is
            absent and not predicted has the loss 0.

    Raises:
        ArgumentError: ``smoothing`` is not positive.

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
        overlap = known.weigh(known.prediction * known.target).sum(known.axes)
        volume = known.weigh(known.prediction + known.target).sum(known.axes)
        smoothing = self.smoothing * known.mean_weights()
        return known.mean_of_classes(1 - (2 * overlap + smoothing) / (volume + smoothing))


@final
class Tversky(MaskedLoss):
    """One minus the Tversky index of the annotated voxels, averaged over the channels that have any.

    The index is TP / (TP + alpha FP + beta FN), with the letters of Salehi et al. 2017 (arXiv 1706.05721). With alpha
    and beta 0.5 it is the Dice loss with half the smoothing. All samples of the batch are counted together.

    With ``gamma`` it is the focal Tversky loss (Abraham and Khan 2019, arXiv 1810.07842): each channel's loss to the
    power 1 / gamma. The paper recommends 4/3, which gives channels with a small loss more weight. It exchanges the
    names alpha and beta.

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives. For rare classes it should be larger than ``alpha``, so that they are found.
        gamma: from 1 up; 1 changes nothing.
        smoothing: number of voxels, of the class's mean weight, added to numerator and denominator. So a class that is
            absent and not predicted has the loss 0.

    Raises:
        ArgumentError: ``alpha`` or ``beta`` is negative, ``gamma`` below 1, ``smoothing`` not positive.

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
        found = known.weigh(prediction * target).sum(known.axes) + self.smoothing * known.mean_weights()
        false_positive = known.weigh(prediction * (1 - target)).sum(known.axes)
        false_negative = known.weigh((1 - prediction) * target).sum(known.axes)
        loss = 1 - found / (found + self.alpha * false_positive + self.beta * false_negative)
        if self.gamma != 1:
            # the slope of a root is infinite at 0, which is the least loss
            some = loss > 0
            loss = loss.where(some, 1).pow(1 / self.gamma).where(some, 0)
        return known.mean_of_classes(loss)
