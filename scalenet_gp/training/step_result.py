"""The result of learning from one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scalenet_gp.graph import Plan
from scalenet_gp.losses import FinalActivation
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
        raw_outputs: likewise, the outputs that losses were computed of: logits where an output ends in a Sigmoid or
            Softmax.
        activations: the activation of each output whose raw output is logits, None for others.
        outputs: likewise, the predictions in training: probabilities where an output ends in a Sigmoid or Softmax.
        targets: of each output, in its shape.
        masks: likewise; above 0 where the target is annotated.
        loss_of: the loss of an output, by its name, for a raw output, target, mask and activation. They may have fewer
            channels than the output, and then all channels weigh the same. Raises a ValueError if the loss takes no
            fewer.
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
    loss_of: Callable[..., Tensor]
    gradient_scale: float = 1.0
    raw_outputs: Mapping[str, Tensor] = field(default_factory=dict)
    activations: Mapping[str, FinalActivation | None] = field(default_factory=dict)

    def gradient(self, name: str) -> Tensor:
        """Return the gradient of the weighted loss with respect to a raw output, in its shape; zero if skipped."""
        output = self.raw_outputs[name]
        return torch.zeros_like(output) if output.grad is None else output.grad / self.gradient_scale

    def loss_of_class(self, name: str, index: int) -> Tensor:
        """Return the loss of one channel of an output.

        Raises:
            ValueError: the loss takes no single channel.
        """
        activation, prediction = self.activations.get(name), self.outputs[name]
        if activation == "Sigmoid":
            prediction = self.raw_outputs[name]
        else:
            activation = None  # a softmax of one channel alone would be another
        given = prediction, self.targets[name], self.masks[name]
        return self.loss_of(name, *(tensor[:, index : index + 1].detach() for tensor in given), activation)
