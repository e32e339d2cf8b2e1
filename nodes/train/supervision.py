"""The supervision of one output of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import gunpowder as gp
from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.losses import CrossEntropyDice
from scalenet_gp.training import OutputLoss

__all__ = ["Supervision"]


@dataclass(frozen=True, slots=True)
class Supervision:
    """The arrays and the loss by which one output of a network is trained.

    Attributes:
        prediction: the array of the output. What is requested of it downstream is trained.
        target: the array of the true values, of the same voxel size and channels. None for an output that has no loss
            of its own: it is predicted, and losses that several outputs have together may read it.
        mask: the array of the voxels' weights in the loss, above 0 where the target is annotated, in the target's shape
            or with one channel for all. A mask of 0 and 1 will do, and so will that of :class:`.ClassWeights`. By
            default all is annotated.
        loss: see :class:`scalenet_gp.training.OutputLoss`, as for ``weight`` and ``class_weights``.
        weight: factor of the loss in the sum over the outputs.
        class_weights: one weight for each channel. By default all are alike.
        gradient: the array of the loss's gradient, if it is to be requested downstream: with respect to the output, or
            to its logits where it ends in a Sigmoid or Softmax.

    Raises:
        ArgumentError: ``weight`` is negative or not finite, or there is a mask of no target.

    Example:
        >>> prediction, target, mask = map(gp.ArrayKey, ("PREDICTION", "TARGET", "MASK"))
        >>> Supervision(prediction, target, mask, weight=0.5).output_loss.weight
        0.5
    """

    prediction: gp.ArrayKey
    target: gp.ArrayKey | None = None
    mask: gp.ArrayKey | None = None
    loss: Callable[..., Tensor] = field(default_factory=CrossEntropyDice)
    weight: float | Callable[[int], float] = 1.0
    class_weights: Sequence[float] | None = None
    gradient: gp.ArrayKey | None = None

    def __post_init__(self) -> None:
        if self.target is None and self.mask is not None:
            raise ArgumentError(f"{self.prediction} has the mask {self.mask}, but no target that it could be of")
        self.output_loss  # noqa: B018 - refuses a weight that is out of range

    @property
    def output_loss(self) -> OutputLoss:
        """The loss with its weight, as a trainer takes it."""
        return OutputLoss(self.loss, self.weight, self.class_weights, str(self.prediction))
