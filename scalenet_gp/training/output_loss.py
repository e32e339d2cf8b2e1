"""Losses of a network's outputs, with their weights in the sum, and targets and masks in the outputs' shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.losses import CrossEntropyDice, FinalActivation, call_loss

__all__ = ["Losses", "OutputLoss", "build_output_losses", "match_output"]


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


Losses = Mapping[str, OutputLoss | Callable[..., Tensor]]
"""Losses of outputs by name, with or without weights."""


def build_output_losses(net: LeibNet, losses: Losses | None) -> dict[str, OutputLoss]:
    """Return the loss of each output that is trained, by default of all.

    Raises:
        ArgumentError: an output is unknown, no loss is given, or the class weights are not as many as channels.
    """
    if losses is None:
        return {name: OutputLoss(name=repr(name)) for name in net.output_keys}
    unknown = [name for name in losses if name not in net.output_keys]
    if unknown or not losses:
        raise ArgumentError(
            f"losses are of {', '.join(losses) or 'no output'}; {net.name} has the outputs {', '.join(net.output_keys)}"
        )
    made = {}
    for name, loss in losses.items():
        made[name] = loss if isinstance(loss, OutputLoss) else OutputLoss(loss, name=repr(name))
        weights, channels = made[name].class_weights, net.specs[name].channels
        if weights is not None and len(weights) != channels:
            raise ArgumentError(f"output {name!r} has {channels} channels, but {len(weights)} class weights are given")
    return made


def match_output(kind: str, name: str, tensors: Mapping[str, Tensor], output: Tensor) -> Tensor:
    """Return the target or mask of an output, in its shape and type and on its device.

    Args:
        kind: ``target`` or ``mask``. A mask may have one channel for all.
        name: name of the output.
        tensors: targets or masks by name.
        output: the output, (B, C, Z, Y, X).

    Raises:
        ArgumentError: there is no tensor of this name, or it has another shape.
    """
    if name not in tensors:
        raise ArgumentError(f"output {name!r} has no {kind}; there are {', '.join(tensors) or 'none'}")
    tensor = tensors[name].to(output)
    if kind == "mask" and tensor.ndim == output.ndim and tensor.shape[1] == 1:
        tensor = tensor.expand(-1, output.shape[1], *(-1,) * (output.ndim - 2))
    if tensor.shape != output.shape:
        raise ArgumentError(
            f"output {name!r} has shape {tuple(output.shape)}, its {kind} has {tuple(tensor.shape)}: batch, "
            "channels and voxels have to agree"
        )
    return tensor
