"""How one output of a network is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import gunpowder as gp
from torch import Tensor

from scalenet_gp.errors import PipelineError
from scalenet_gp.losses import CrossEntropyDice

__all__ = ["Supervision"]


@dataclass(frozen=True, slots=True)
class Supervision:
    """What an output of a network shall be, and how far it is from that.

    Attributes:
        prediction: the array of the output; what is requested of it downstream is what is trained.
        target: the array that it shall equal, of the same voxel size and channels.
        mask: the array that says what of the target is annotated, in the target's shape or with one channel for all;
            all of it unless given.
        loss: called with (prediction, target, mask), each (B, C, Z, Y, X), and with the class weights, (C,), if they
            are given; makes a scalar. Cross-entropy plus Dice unless given.
        weight: what the loss is multiplied by in the sum over the outputs: a number, or what gives one for the number
            of batches learned from.
        class_weights: one for each channel; all alike unless given.
        gradient: the array of the loss's gradient with respect to the output, if it shall be requested downstream.
    """

    prediction: gp.ArrayKey
    target: gp.ArrayKey
    mask: gp.ArrayKey | None = None
    loss: Callable[..., Tensor] = field(default_factory=CrossEntropyDice)
    weight: float | Callable[[int], float] = 1.0
    class_weights: Sequence[float] | None = None
    gradient: gp.ArrayKey | None = None

    def __post_init__(self) -> None:
        if not callable(self.weight):
            self.weight_at(0)

    def weight_at(self, iteration: int) -> float:
        """The weight after ``iteration`` batches.

        Raises:
            ValueError: it is negative or not finite.
        """
        weight = float(self.weight(iteration) if callable(self.weight) else self.weight)
        if not 0 <= weight < math.inf:
            raise PipelineError(f"the weight of the loss on {self.prediction} has to be from 0 up, not {weight}")
        return weight

    def compute(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """The loss, unweighted, of tensors (B, C, Z, Y, X).

        They may have some of the output's channels, which then weigh the same.

        Raises:
            ValueError: it is no scalar; or what the loss itself refuses.
        """
        weights = self.class_weights
        weighted = weights is not None and len(weights) == prediction.shape[1]
        loss = self.loss(prediction, target, mask, *((prediction.new_tensor(weights),) if weighted else ()))
        if loss.ndim:
            raise PipelineError(f"the loss on {self.prediction} has to be a scalar, not of shape {tuple(loss.shape)}")
        return loss
