"""Binary cross-entropy: every channel says for itself whether its class is there."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn import functional

from scalenet_gp.losses.label_smoothing import checked_smoothing
from scalenet_gp.losses.masked_loss import Annotated, MaskedLoss

__all__ = ["BinaryCrossEntropy"]


@final
class BinaryCrossEntropy(MaskedLoss):
    """The mean binary cross-entropy of the annotated voxels, in nats, over all channels together.

    Args:
        label_smoothing: the share s of a target that is replaced by 0.5, so that it lies in [s/2, 1 - s/2] (Szegedy et
            al. 2016, arXiv 1512.00567, for two classes).

    Raises:
        ValueError: ``label_smoothing`` is not in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = checked_smoothing(label_smoothing)

    def compute(self, known: Annotated) -> Tensor:
        target = known.target
        if self.label_smoothing:
            target = (target + self.label_smoothing * (0.5 - target)).masked_fill(~known.mask, 0)
        return known.mean(functional.binary_cross_entropy(known.prediction, target, reduction="none"))
