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
    """The result of one step: losses, the change of the weights, times, and the tensors of the batch.

    A :class:`.Trainer` makes it. Tensors are (B, C, Z, Y, X), by name.

    Attributes:
        iteration: number of batches learned from, this one included.
        loss: the weighted sum of the losses of all outputs.
        losses: the loss of each output, and of several outputs together, by name, unweighted.
        learning_rate: the learning rate of the first group of parameters.
        update: the change of the weights.
        skipped: number of steps skipped since the run began.
        samples: number of samples in the batch, of all processes.
        seconds: seconds since the end of the step before.
        waited: seconds of these that were spent waiting for data.
        plan: the plan of the batch.
        inputs: the inputs of the network.
        outputs: the predictions in training: probabilities if an output ends in a Sigmoid or Softmax.
        targets: the target of each output that has a loss of its own, in its shape.
        masks: masks of each of these outputs, in its shape: the weights of voxels, above 0 where the target is
            annotated.
        loss_of: returns the loss of an output, by its name, for a raw output, target, mask and activation. They may
            have fewer channels than the output, and then all channels weigh the same. Raises a ValueError if the loss
            takes no fewer.
        gradient_scale: factor of the gradients that torch has computed.
        raw_outputs: the outputs that losses were computed from: logits if an output ends in a Sigmoid or Softmax.
        activations: the activation of each output whose raw output is logits, None for others.

    Example:
        >>> from scalenet_gp import build_unet
        >>> from scalenet_gp.training import Trainer
        >>> net = build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)])
        >>> read, made = net.smallest_plan.input_tensors["input"].shape, net.smallest_plan.tensor("output").shape
        >>> result = Trainer(net).step({"input": torch.rand(1, 1, *read)}, {"output": torch.ones(1, 1, *made)})
        >>> result.samples, result.update.taken, bool((result.outputs["output"] <= 1).all())
        (1, True, True)
    """

    iteration: int
    loss: float
    losses: Mapping[str, float]
    learning_rate: float
    update: UpdateResult
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
            ArgumentError: the loss takes no single channel.
        """
        activation, prediction = self.activations.get(name), self.outputs[name]
        if activation == "Sigmoid":
            prediction = self.raw_outputs[name]
        else:
            activation = None  # a softmax of one channel alone would be another
        given = prediction, self.targets[name], self.masks[name]
        return self.loss_of(name, *(tensor[:, index : index + 1].detach() for tensor in given), activation)
