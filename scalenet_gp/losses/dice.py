"""The Dice loss: how far prediction and target overlap."""

from __future__ import annotations

from typing import final

from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.losses.masked_loss import Annotated, MaskedLoss

__all__ = ["Dice"]


@final
class Dice(MaskedLoss):
    """One minus the soft Dice coefficient of the annotated voxels, averaged over the channels that have any.

    Milletari et al. 2016 (arXiv 1606.04797), with sums instead of squares in the denominator. A channel counts all
    samples of the batch together, so that a class that one sample lacks does not dominate.

    Args:
        smoothing: added to numerator and denominator, in voxels: a class that is absent and not predicted has no loss.

    Raises:
        ValueError: ``smoothing`` is not positive.
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
