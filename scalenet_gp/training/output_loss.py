"""The loss of one output, with its weight in the sum over all outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.losses import CrossEntropyDice, FinalActivation, call_loss

__all__ = ["OutputLoss"]


@dataclass(frozen=True, slots=True)
class OutputLoss:
    """The loss of one output, its weight and the weights of classes.

    Attributes:
        loss: called with (prediction, target, mask), each (B, C, Z, Y, X), and with the class weights, (C,), if they
            are given; returns a scalar. By default it is cross-entropy plus Dice.
        weight: factor of the loss in the sum over the outputs: a number, or a function of the number of batches that
            were learned from.
        class_weights: one weight for each channel. By default all are alike.
        name: name of the output, for messages.

    Raises:
        ArgumentError: ``weight`` is negative or not finite.

    Example:
        >>> import torch
        >>> ones = torch.ones(1, 2, 4, 4)
        >>> OutputLoss(weight=0.5).compute(ones, ones, ones).item()
        0.0
    """

    loss: Callable[..., Tensor] = field(default_factory=CrossEntropyDice)
    weight: float | Callable[[int], float] = 1.0
    class_weights: Sequence[float] | None = None
    name: str = "the output"

    def __post_init__(self) -> None:
        if not callable(self.weight):
            self.weight_at(0)

    def weight_at(self, iteration: int) -> float:
        """Return the weight after ``iteration`` batches.

        Raises:
            ArgumentError: it is negative or not finite.
        """
        weight = float(self.weight(iteration) if callable(self.weight) else self.weight)
        if not 0 <= weight < math.inf:
            raise ArgumentError(f"the weight of the loss on {self.name} has to be from 0 up, not {weight}")
        return weight

    def compute(
        self, prediction: Tensor, target: Tensor, mask: Tensor, activation: FinalActivation | None = None
    ) -> Tensor:
        """Return the loss, unweighted, of tensors (B, C, Z, Y, X).

        They may have some of the output's channels, which then weigh the same. With an ``activation``, ``prediction``
        holds logits.

        Raises:
            ArgumentError: the loss is not a scalar, or it refuses the tensors.
        """
        weights = self.class_weights
        weighted = weights is not None and len(weights) == prediction.shape[1]
        given = (prediction.new_tensor(weights),) if weighted else ()
        loss = call_loss(self.loss, prediction, target, mask, *given, activation=activation)
        if loss.ndim:
            raise ArgumentError(f"the loss on {self.name} has to be a scalar, not of shape {tuple(loss.shape)}")
        return loss
