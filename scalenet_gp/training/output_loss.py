"""Losses of a network's outputs, with their weights in the sum, and targets and masks in the outputs' shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.losses import CrossEntropyDice, FinalActivation, NamedLosses, call_loss

__all__ = ["JointLoss", "Losses", "OutputLoss", "build_output_losses", "check_joint_losses", "match_output"]


_TAKEN = ("adversarial", "discriminator")
"""The names of an adversary's losses."""


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
        _check_weight(self)

    def weight_at(self, iteration: int) -> float:
        """Return the weight after ``iteration`` batches, and tell sums within the loss that number.

        Raises:
            ArgumentError: it is negative or not finite.
        """
        return _weight_at(self, iteration)

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
        return _check_scalar(call_loss(self.loss, prediction, target, mask, *given, activation=activation), self.name)


@dataclass(frozen=True, slots=True)
class JointLoss:
    """A loss that several outputs have together, without a target: a divergence of distributions, for example.

    Attributes:
        loss: called with the outputs, (B, C, Z, Y, X) each, in the order of ``outputs``; returns a scalar.
        outputs: names of the outputs.
        weight: factor of the loss in the sum of all losses: a number, or a function of the number of batches that were
            learned from.
        name: name of the loss, for messages.

    Raises:
        ArgumentError: ``outputs`` is empty, or ``weight`` is negative or not finite.

    Example:
        >>> import torch
        >>> from scalenet_gp.losses import KullbackLeibler
        >>> zeros = torch.zeros(1, 2, 4, 4)
        >>> JointLoss(KullbackLeibler(), ["mean", "log_variance"], weight=0.01).compute([zeros, zeros]).item()
        0.0
    """

    loss: Callable[..., Tensor]
    outputs: Sequence[str]
    weight: float | Callable[[int], float] = 1.0
    name: str = "several outputs"

    def __post_init__(self) -> None:
        if isinstance(self.outputs, str) or not self.outputs:
            raise ArgumentError(f"a joint loss names one or more outputs in a list, not {self.outputs!r}")
        _check_weight(self)

    def weight_at(self, iteration: int) -> float:
        """Return the weight after ``iteration`` batches, and tell sums within the loss that number.

        Raises:
            ArgumentError: it is negative or not finite.
        """
        return _weight_at(self, iteration)

    def compute(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the loss, unweighted, of the outputs in the order of :attr:`outputs`.

        Raises:
            ArgumentError: the loss is not a scalar, or it refuses the tensors.
        """
        return _check_scalar(self.loss(*outputs), self.name)


def _check_weight(loss: OutputLoss | JointLoss) -> None:
    if not callable(loss.weight):
        _weight_at(loss, 0)


def _weight_at(loss: OutputLoss | JointLoss, iteration: int) -> float:
    if isinstance(loss.loss, nn.Module):
        for module in loss.loss.modules():
            if isinstance(module, NamedLosses):
                module.iteration = iteration
    weight = float(loss.weight(iteration) if callable(loss.weight) else loss.weight)
    if not 0 <= weight < math.inf:
        raise ArgumentError(f"the weight of the loss on {loss.name} has to be from 0 up, not {weight}")
    return weight


def _check_scalar(value: Tensor, name: str) -> Tensor:
    if value.ndim:
        raise ArgumentError(f"the loss on {name} has to be a scalar, not of shape {tuple(value.shape)}")
    return value


Losses = Mapping[str, OutputLoss | Callable[..., Tensor]]
"""Losses of outputs by name, with or without weights."""


def build_output_losses(
    net: LeibNet, losses: Losses | None, joint: Mapping[str, JointLoss] | None = None
) -> dict[str, OutputLoss]:
    """Return the loss of each output that is trained, by default of all that have no part in a joint loss.

    Raises:
        ArgumentError: an output is unknown, no loss is given, or the class weights are not as many as channels.
    """
    if losses is None:
        together = {name for loss in (joint or {}).values() for name in loss.outputs}
        return {name: OutputLoss(name=repr(name)) for name in net.output_keys if name not in together}
    unknown = [name for name in losses if name not in net.output_keys]
    if unknown or not (losses or joint):
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


def check_joint_losses(net: LeibNet, joint: Mapping[str, JointLoss]) -> dict[str, JointLoss]:
    """Return joint losses by their names.

    Raises:
        ArgumentError: one reads an output that is unknown, or has the name of an output.
    """
    for name, loss in joint.items():
        if name in net.output_keys or name in _TAKEN:
            raise ArgumentError(f"the joint loss {name!r} has the name of an output or of another loss; rename it")
        for output in loss.outputs:
            if output not in net.output_keys:
                raise ArgumentError(
                    f"the joint loss {name!r} reads {output!r}; {net.name} has the outputs {', '.join(net.output_keys)}"
                )
    return dict(joint)


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
