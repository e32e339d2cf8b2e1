"""Weights and inputs that make a network's geometry visible."""

from __future__ import annotations

import math

import torch
from funlib.geometry import Coordinate, Roi
from torch import Tensor, nn

from scalenet_gp import LeibNet, Plan
from scalenet_gp.graph.fusion import fused_inputs
from scalenet_gp.layers import ConvPass

__all__ = ["averaging", "centres", "positive", "ramps", "taken_by", "values", "zeros"]

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def positive(net: LeibNet) -> LeibNet:
    """``net`` in float64 and evaluation mode, with positive weights and no biases: nothing cancels in a gradient."""
    generator = torch.Generator().manual_seed(0)
    net.to(torch.float64)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.uniform_(0.5, 1.5, generator=generator).div_(math.prod(parameter.shape[1:]))
    return net.eval()


def averaging(net: LeibNet) -> LeibNet:
    """``net`` in float64, each convolution the mean of what it reads; a residual pass the mean of its two ways."""
    net.to(torch.float64)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        for module in net.modules():
            if isinstance(module, CONVOLUTIONS):
                summed = module.weight.shape[0] if module.transposed else math.prod(module.weight.shape[1:])
                module.weight.fill_(1 / summed)
        for module in net.modules():
            if isinstance(module, ConvPass) and module.projection is not None:
                last = [layer for layer in module.layers if isinstance(layer, CONVOLUTIONS)][-1]
                last.weight.mul_(0.5)
                module.projection.weight.mul_(0.5)
    return net


def values(plan: Plan) -> int:
    """The count of numbers in one sample of all the tensors of a plan."""
    return sum(tensor.numbytes(itemsize=1) for tensor in plan.tensors)


def zeros(plan: Plan) -> dict[str, Tensor]:
    """Inputs of a plan that record their gradient."""
    return {
        key: torch.zeros((1, tensor.channels, *tensor.shape), dtype=torch.float64, requires_grad=True)
        for key, tensor in plan.input_tensors.items()
    }


def centres(roi: Roi, voxel_size: Coordinate) -> Tensor:
    """The world coordinates of the voxel centres in ``roi``, (axis, 1, Z, Y, X): one axis per sample of a batch."""
    along = [
        torch.arange(begin, end, size, dtype=torch.float64) + size / 2
        for begin, end, size in zip(roi.begin, roi.end, voxel_size, strict=True)
    ]
    return torch.stack(torch.meshgrid(*along, indexing="ij"))[:, None]


def ramps(plan: Plan, net: LeibNet) -> dict[str, Tensor]:
    """Inputs of a plan whose every channel is the world coordinate of the voxel's centre, one axis per sample."""
    return {
        key: centres(tensor.roi, net.voxel_size[key]).expand(-1, tensor.channels, *tensor.shape)
        for key, tensor in plan.input_tensors.items()
    }


def taken_by(net: LeibNet) -> dict[str, tuple[str, ...]]:
    """The tensors that each node takes in a pass, by its identifier."""
    taken = fused_inputs(list(net.nodes.values()), net.specs)
    return {node: tuple(key for key, _ in pairs) for node, pairs in taken.items()}
