"""Binary cross-entropy plus Dice loss, what a network is trained with unless another loss is given."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from scalenet_gp.losses.binary_cross_entropy import BinaryCrossEntropy
from scalenet_gp.losses.dice import Dice

__all__ = ["CrossEntropyDice"]


@final
class CrossEntropyDice(nn.Module):
    """Binary cross-entropy plus Dice loss: the one for each voxel, the other against the rarity of a class."""

    def __init__(self) -> None:
        super().__init__()
        self.cross_entropy = BinaryCrossEntropy()
        self.dice = Dice()

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """The loss, a scalar. What it takes and raises: see :meth:`MaskedLoss.forward`."""
        dice = self.dice(prediction, target, mask, class_weights)
        return self.cross_entropy(prediction, target, mask, class_weights) + dice
