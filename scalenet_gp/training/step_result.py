"""The result of learning from one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from scalenet_gp.graph import Plan
from scalenet_gp.training.training_state import UpdateResult

__all__ = ["StepResult"]


@dataclass(frozen=True, slots=True, eq=False)
class StepResult:
    """One batch: how good the network was, what that changed, how long it took, and the tensors themselves.

    Attributes:
        iteration: batches learned from, this one included.
        loss: of all outputs, weighted.
        losses: of each output, unweighted.
        learning_rate: of the first group of parameters.
        step: what came of the batch.
        skipped: steps that were skipped, in all.
        samples: in the batch.
        seconds: since the end of the batch before.
        waited: seconds of those in which data were waited for.
        plan: where everything lies.
        inputs: of the network, (B, C, Z, Y, X) each.
        outputs: likewise, in training: losses were computed of these.
        targets: of each output, in its shape.
        masks: likewise; above 0 where the target is annotated.
        loss_of: the loss of an output, by its name, for a prediction, target and mask that may have fewer channels than
            the output, all channels weighing the same. Raises a ValueError if that loss takes no fewer.
        gradient_scale: factor of the gradients that torch has computed.
    """

    iteration: int
    loss: float
    losses: Mapping[str, float]
    learning_rate: float
    step: UpdateResult
    skipped: int
    samples: int
    seconds: float
    waited: float
    plan: Plan
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    loss_of: Callable[[str, Tensor, Tensor, Tensor], Tensor]
    gradient_scale: float = 1.0

    def gradient(self, name: str) -> Tensor:
        """Return the gradient of the weighted loss with respect to an output, in its shape; zero if it was skipped."""
        output = self.outputs[name]
        return torch.zeros_like(output) if output.grad is None else output.grad / self.gradient_scale
