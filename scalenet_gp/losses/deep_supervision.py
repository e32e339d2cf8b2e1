"""Losses of several outputs of one network, such as those of its scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from torch import Tensor, nn

from scalenet_gp.errors import UnknownNameError
from scalenet_gp.losses.named_losses import NamedLosses

__all__ = ["DeepSupervision"]


@final
class DeepSupervision(NamedLosses):
    """The sum of the losses of a network's outputs, each multiplied by its weight (Lee et al. 2015, arXiv 1409.5185).

    For training loops of one's own, it is the sum that :class:`scalenet_gp.nodes.Train` makes of the losses and weights
    of each :class:`scalenet_gp.nodes.Supervision`. The weights are not normalised, so that what a loss adds does not
    depend on which other outputs were asked for; ``weights`` may be changed from step to step. To have the loss of
    every output as well, take :meth:`parts`, and :meth:`total` of them.

    Args:
        loss: of each output by its name, or one for all; called with (prediction, target, mask, class_weights).
        weights: of every output, by its name.

    Raises:
        ValueError: there is no output, losses and weights have other names, or a weight is negative or not finite.
    """

    def __init__(self, loss: nn.Module | Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__(dict.fromkeys(weights, loss) if isinstance(loss, nn.Module) else loss, weights)

    def forward(
        self,
        predictions: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        class_weights: Tensor | None = None,
    ) -> Tensor:
        """The loss, a scalar.

        Args:
            predictions: of any of the outputs, by name, as the network returns them: (B, C, Z, Y, X) each.
            targets: of these outputs at least, in the same shapes.
            masks: likewise.
            class_weights: (C,), for all outputs.

        Raises:
            KeyError: there is no loss, target or mask for what is predicted.
            ValueError: nothing is predicted; also as the losses say.
        """
        return self.total(self.parts(predictions, targets, masks, class_weights))

    def parts(
        self,
        predictions: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        class_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The loss of every output by its name, without its weight."""
        losses = dict(zip(self.weights, self.losses, strict=True))
        for what, known in (("loss", losses), ("target", targets), ("mask", masks)):
            missing = [name for name in predictions if name not in known]
            if missing:
                raise UnknownNameError(f"there is no {what} for {', '.join(missing)}, but for {', '.join(known)}")
        return {
            name: losses[name](prediction, targets[name], masks[name], class_weights)
            for name, prediction in predictions.items()
        }
