"""Normalizations that the package does not have, for `learning.py`: put into a network that was built with another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from scalenet_gp import LeibNet, Plan
from scalenet_gp.layers import CalibratedGroupNorm

__all__ = ["Candidate", "change_normalization"]

Candidate = Literal["batch_renorm", "channels", "weights", "scaled"]


class BatchRenorm(nn.modules.batchnorm._BatchNorm):
    """Batch renormalization (Ioffe 2017): training uses the running statistics, within limits that widen."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        shape = (1, -1, *(1,) * (x.dim() - 2))
        variance, mean = torch.var_mean(x, dim=[0, *range(2, x.dim())], correction=0)
        with torch.no_grad():
            step = int(self.num_batches_tracked)
            self.num_batches_tracked += 1
            widest, farthest = min(3.0, 1 + step / 100), min(5.0, step / 40)
            deviation = (self.running_var + self.eps).sqrt()
            scale = ((variance + self.eps).sqrt() / deviation).clamp(1 / widest, widest)
            shift = ((mean - self.running_mean) / deviation).clamp(-farthest, farthest)
            newest = max(self.momentum, 1 / (step + 1))
            self.running_mean.lerp_(mean, newest)
            self.running_var.lerp_(variance, newest)
        y = (x - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        y = y * scale.view(shape) + shift.view(shape)
        return y * self.weight.view(shape) + self.bias.view(shape)

    def _check_input_dim(self, x: Tensor) -> None:
        """Take any number of axes."""


class ChannelNorm(nn.Module):
    """The channels of each voxel are normalized alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.norm(x.movedim(1, -1))
        return made.movedim(-1, 1)


class Standardized(nn.Module):
    """Scaled weight standardization (Brock et al. 2021, arXiv 2101.08692), with the gain of ReLU."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(len(weight), *(1,) * (weight.dim() - 1)))
        self.fan_in = weight[0].numel()

    def forward(self, weight: Tensor) -> Tensor:
        axes = tuple(range(1, weight.dim()))
        variance, mean = torch.var_mean(weight, dim=axes, correction=0, keepdim=True)
        relu = math.sqrt(2 / (1 - 1 / math.pi))
        return (weight - mean) * torch.rsqrt((variance * self.fan_in).clamp(min=1e-8)) * self.gain * relu


def change_normalization(net: LeibNet, name: Candidate, inputs: Mapping[str, Tensor], plan: Plan) -> None:
    """Put a candidate into a network with batch normalization, or, for those of weights, into one without any.

    Args:
        net: the network.
        name: the candidate. With ``"scaled"`` each convolution is scaled once, so that it makes values of variance 1
            of ``inputs`` (Mishkin and Matas 2016, arXiv 1511.06422).
        inputs: samples to scale by.
        plan: the plan of ``inputs``.
    """
    if name == "weights":
        for module in list(net.modules()):
            # convolutions of one voxel make the outputs, whose size is to be learned
            if isinstance(module, nn.Conv2d | nn.Conv3d) and math.prod(module.kernel_size) > 1:
                parametrize.register_parametrization(module, "weight", Standardized(module.weight))
    elif name == "scaled":
        scale_convolutions(net, inputs, plan)
    else:
        made: Callable[[int], nn.Module] = {"batch_renorm": BatchRenorm, "channels": ChannelNorm}[name]
        for module in list(net.modules()):
            for key, child in list(module.named_children()):
                if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
                    setattr(module, key, made(child.num_features))
                elif isinstance(child, CalibratedGroupNorm):
                    raise ValueError("build the network with batch normalization")


@torch.no_grad()
def scale_convolutions(net: LeibNet, inputs: Mapping[str, Tensor], plan: Plan) -> None:
    """Scale each convolution, in the order of the pass, so that its output has variance 1."""

    def scale(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
        deviation = made.std()
        module.weight.div_(deviation)  # type: ignore[operator, union-attr]
        return made / deviation  # biases are zero at the beginning

    hooks = [
        module.register_forward_hook(scale) for module in net.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)
    ]
    net(inputs, plan)
    for hook in hooks:
        hook.remove()
