"""Sums of losses: of one output, and of several outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import ClassVar, final

from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError, UnknownNameError
from scalenet_gp.losses.cross_entropy import BinaryCrossEntropy, CrossEntropy
from scalenet_gp.losses.masked_loss import FinalActivation, call_loss
from scalenet_gp.losses.overlap import Dice

__all__ = ["CrossEntropyDice", "DeepSupervision", "NamedLosses", "WeightedSum"]

Weight = float | Callable[[int], float]
"""The weight of a loss: a number, or a function of the number of batches that were learned from."""


@final
class CrossEntropyDice(nn.Module):
    """The sum of a cross-entropy, a loss of single voxels, and Dice loss, which counts rare classes equally.

    Args:
        exclusive: the channels exclude one another, as a Softmax makes them: :class:`CrossEntropy` then, and otherwise
            :class:`BinaryCrossEntropy`.

    Example:
        >>> import torch
        >>> CrossEntropyDice()(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).item()
        0.0
    """

    takes_logits: ClassVar[bool] = True

    def __init__(self, exclusive: bool = False) -> None:
        super().__init__()
        self.cross_entropy = CrossEntropy() if exclusive else BinaryCrossEntropy()
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
    """Abstract: a weighted sum of losses with names.

    The weights are not normalized: twice the weights are twice the loss. They are not part of the state, and may be
    changed from step to step. A weight that is a function is asked for :attr:`iteration`, which a
    :class:`scalenet_gp.training.Trainer` sets before each step.

    Attributes:
        losses: the losses, in the order of ``weights``.
        weights: the weight of every loss by its name: a number, or a function of the number of batches that were
            learned from.
        iteration: the number of batches that were learned from.

    Raises:
        ArgumentError: there is no loss, losses and weights have other names, or a weight is negative or not finite.

    Example:
        >>> NamedLosses({"overlap": nn.Identity()}, {"overlap": 0.5}).weights
        {'overlap': 0.5}
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, Weight]) -> None:
        super().__init__()
        if not losses:
            raise ArgumentError("there has to be at least one loss")
        if losses.keys() != weights.keys():
            raise ArgumentError(f"there are losses for {', '.join(losses)}, but weights for {', '.join(weights)}")
        self.weights, self.iteration = dict(weights), 0
        for name in weights:
            self.weight_of(name)
        self.losses = nn.ModuleList(losses[name] for name in weights)

    def weight_of(self, name: str) -> float:
        """Return the weight of a loss at :attr:`iteration`.

        Raises:
            KeyError: the name has no weight.
            ArgumentError: it is negative or not finite.
        """
        given = self.weights[name]
        weight = given(self.iteration) if callable(given) else given
        if not 0 <= weight < inf:
            raise ArgumentError(f"the weight of {name!r} has to be from 0 up, not {weight}")
        return weight

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of losses by name, a scalar.

        Raises:
            KeyError: a name has no weight.
            ArgumentError: no loss is given.
        """
        if not parts:
            raise ArgumentError(f"there is no loss to add up; there could be {', '.join(self.weights)}")
        first, *others = (self.weight_of(name) * loss for name, loss in parts.items())
        return sum(others, start=first)

    def extra_repr(self) -> str:
        """Return the weights."""
        return f"weights={ ({name: self.weight_of(name) for name in self.weights}) }"


@final
class WeightedSum(NamedLosses):
    """The weighted sum of several losses of one prediction.

    The weights are not normalized, and may be changed from step to step. :meth:`parts` returns the single losses, and
    :meth:`total` their sum.

    Args:
        losses: the losses by any name; each is called with (prediction, target, mask, class_weights).
        weights: the weight of each loss: a number, or a function of the number of batches that were learned from. By
            default each has 1.

    Raises:
        ArgumentError: there is no loss, losses and weights have other names, or a weight is negative or not finite.

    Example:
        >>> WeightedSum({"entropy": BinaryCrossEntropy(), "overlap": Dice()}, {"entropy": 1, "overlap": 0.5}).weights
        {'entropy': 1, 'overlap': 0.5}
    """

    takes_logits: ClassVar[bool] = True

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, Weight] | None = None) -> None:
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

    It is for training loops without a :class:`scalenet_gp.training.Trainer`, which computes the same sum. The weights
    are not normalized, so that the share of a loss does not depend on the other requested outputs. They may be changed
    from step to step. :meth:`parts` returns the loss of every output, and :meth:`total` their sum.

    Args:
        loss: the loss of each output by its name, or one for all; called with (prediction, target, mask,
            class_weights).
        weights: the weight of every output by its name: a number, or a function of the number of batches that were
            learned from.

    Raises:
        ArgumentError: there is no output, losses and weights have other names, or a weight is negative or not finite.

    Example:
        >>> DeepSupervision(Dice(), {"output": 1, "output_1": 0.5}).weights
        {'output': 1, 'output_1': 0.5}
    """

    def __init__(self, loss: nn.Module | Mapping[str, nn.Module], weights: Mapping[str, Weight]) -> None:
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
            predictions: predictions of some or all outputs, by name: (B, C, Z, Y, X) each.
            targets: the targets of these outputs at least, in the same shapes.
            masks: the masks of these outputs at least, in the same shapes.
            class_weights: (C,), for all outputs.
            activations: the activation of each output whose prediction is given as logits.

        Raises:
            UnknownNameError: a prediction has no loss, target or mask.
            ArgumentError: there is no prediction; also as the losses say.
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
