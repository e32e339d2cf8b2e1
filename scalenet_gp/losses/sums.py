"""Sums of losses: of one output, and of several outputs."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import ClassVar, final

from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError, UnknownNameError
from scalenet_gp.losses.cross_entropy import BinaryCrossEntropy
from scalenet_gp.losses.masked_loss import FinalActivation, call_loss
from scalenet_gp.losses.overlap import Dice

__all__ = ["CrossEntropyDice", "DeepSupervision", "WeightedSum"]


@final
class CrossEntropyDice(nn.Module):
    """Binary cross-entropy plus Dice loss: the one for each voxel, the other against the rarity of a class.

    Example:
        >>> import torch
        >>> CrossEntropyDice()(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).item()
        0.0
    """

    takes_logits: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.cross_entropy = BinaryCrossEntropy()
        self.dice = Dice()

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        mask: Tensor,
        class_weights: Tensor | None = None,
        activation: FinalActivation | None = None,
    ) -> Tensor:
        """Return the loss, a scalar. Arguments and errors are those of :meth:`.MaskedLoss.forward`."""
        dice = self.dice(prediction, target, mask, class_weights, activation)
        return self.cross_entropy(prediction, target, mask, class_weights, activation) + dice


class NamedLosses(nn.Module):
    """Abstract: what adds up losses that have names, each multiplied by its weight.

    The weights are not normalised: twice the weights are twice the loss. They are no part of the state, and may be
    changed from step to step.

    Attributes:
        losses: in the order of ``weights``.
        weights: of every loss by its name.

    Raises:
        ValueError: there is no loss, losses and weights have other names, or a weight is negative or not finite.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if not losses:
            raise ArgumentError("there has to be at least one loss")
        if losses.keys() != weights.keys():
            raise ArgumentError(f"there are losses for {', '.join(losses)}, but weights for {', '.join(weights)}")
        for name, weight in weights.items():
            if not 0 <= weight < inf:
                raise ArgumentError(f"the weight of {name!r} has to be from 0 up, not {weight}")
        self.weights = dict(weights)
        self.losses = nn.ModuleList(losses[name] for name in weights)

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of these losses by name, a scalar.

        Raises:
            KeyError: one of them is not known.
            ValueError: there are none.
        """
        if not parts:
            raise ArgumentError(f"there is no loss to add up; there could be {', '.join(self.weights)}")
        first, *others = (self.weights[name] * loss for name, loss in parts.items())
        return sum(others, start=first)

    def extra_repr(self) -> str:
        """The weights."""
        return f"weights={self.weights}"


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

    Example:
        >>> WeightedSum({"entropy": BinaryCrossEntropy(), "overlap": Dice()}, {"entropy": 1, "overlap": 0.5}).weights
        {'entropy': 1, 'overlap': 0.5}
    """

    takes_logits: ClassVar[bool] = True

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float] | None = None) -> None:
        super().__init__(losses, dict.fromkeys(losses, 1.0) if weights is None else weights)

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        mask: Tensor,
        class_weights: Tensor | None = None,
        activation: FinalActivation | None = None,
    ) -> Tensor:
        """Return the loss, a scalar. Arguments and errors are those of :meth:`.MaskedLoss.forward`."""
        return self.total(self.parts(prediction, target, mask, class_weights, activation))

    def parts(
        self,
        prediction: Tensor,
        target: Tensor,
        mask: Tensor,
        class_weights: Tensor | None = None,
        activation: FinalActivation | None = None,
    ) -> dict[str, Tensor]:
        """Return every loss by its name, without its weight."""
        given = () if class_weights is None else (class_weights,)
        return {
            name: call_loss(loss, prediction, target, mask, *given, activation=activation)
            for name, loss in zip(self.weights, self.losses, strict=True)
        }


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

    Example:
        >>> DeepSupervision(Dice(), {"output": 1, "output_1": 0.5}).weights
        {'output': 1, 'output_1': 0.5}
    """

    def __init__(self, loss: nn.Module | Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__(dict.fromkeys(weights, loss) if isinstance(loss, nn.Module) else loss, weights)

    def forward(
        self,
        predictions: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        class_weights: Tensor | None = None,
        activations: Mapping[str, FinalActivation] | None = None,
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            predictions: of any of the outputs, by name, as the network returns them: (B, C, Z, Y, X) each.
            targets: of these outputs at least, in the same shapes.
            masks: likewise.
            class_weights: (C,), for all outputs.
            activations: the activation of each output whose prediction is given as logits.

        Raises:
            KeyError: there is no loss, target or mask for what is predicted.
            ValueError: nothing is predicted; also as the losses say.
        """
        return self.total(self.parts(predictions, targets, masks, class_weights, activations))

    def parts(
        self,
        predictions: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        class_weights: Tensor | None = None,
        activations: Mapping[str, FinalActivation] | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss of every output by its name, without its weight."""
        given = () if class_weights is None else (class_weights,)
        losses = dict(zip(self.weights, self.losses, strict=True))
        for what, known in (("loss", losses), ("target", targets), ("mask", masks)):
            missing = [name for name in predictions if name not in known]
            if missing:
                raise UnknownNameError(f"there is no {what} for {', '.join(missing)}, but for {', '.join(known)}")
        return {
            name: call_loss(
                losses[name], prediction, targets[name], masks[name], *given, activation=(activations or {}).get(name)
            )
            for name, prediction in predictions.items()
        }
