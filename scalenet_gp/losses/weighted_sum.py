"""Several losses of one prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from torch import Tensor, nn

from scalenet_gp.losses.named_losses import NamedLosses

__all__ = ["WeightedSum"]


@final
class WeightedSum(NamedLosses):
    """The sum of losses of one and the same prediction, each multiplied by its weight.

    ``WeightedSum({"overlap": Dice(), "boundary": Boundary((8, 8, 8))}, {"overlap": 1, "boundary": 0.01})``

    The weights are not normalised; ``weights`` may be changed from step to step. To have the single losses as well,
    take :meth:`parts`, and :meth:`total` of them.

    Args:
        losses: by any name; each is called with (prediction, target, mask, class_weights).
        weights: of each; 1 unless given.

    Raises:
        ValueError: there is no loss, losses and weights have other names, or a weight is negative or not finite.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float] | None = None) -> None:
        super().__init__(losses, dict.fromkeys(losses, 1.0) if weights is None else weights)

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """The loss, a scalar. What it takes and raises: see :meth:`MaskedLoss.forward`."""
        return self.total(self.parts(prediction, target, mask, class_weights))

    def parts(
        self, prediction: Tensor, target: Tensor, mask: Tensor, class_weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Every loss by its name, without its weight."""
        return {
            name: loss(prediction, target, mask, class_weights)
            for name, loss in zip(self.weights, self.losses, strict=True)
        }
