"""Weights, inputs and crops for tests of nodes and networks."""

from __future__ import annotations

import math
from types import EllipsisType

import torch
from funlib.geometry import Coordinate, Roi
from torch import Tensor

from scalenet_gp.errors import LatticeError
from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet

__all__ = ["crop_to_roi", "random_inputs", "randomize"]


def randomize(net: LeibNet) -> LeibNet:
    """Give ``net`` random weights, biases and running statistics in float64, the same at each call, and return it.

    The network is in evaluation mode then.
    """
    generator = torch.Generator().manual_seed(1)
    net.to(torch.float64).eval()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.is_floating_point():
                tensor.normal_(generator=generator).div_(math.prod(tensor.shape[1:]) ** 0.5)
    return net


def random_inputs(plan: Plan, dtype: torch.dtype = torch.float64, batch: int = 1) -> dict[str, Tensor]:
    """Return random inputs (B, C, Z, Y, X) of a plan, the same at each call.

    Example:
        >>> from scalenet_gp import build_unet
        >>> net = randomize(build_unet((8, 8), base_nc=2))
        >>> net(random_inputs(net.smallest_plan), net.smallest_plan)["output"].shape
        torch.Size([1, 1, 4, 4])
    """
    generator = torch.Generator().manual_seed(2)
    return {
        key: torch.randn((batch, tensor.channels, *tensor.shape), dtype=dtype, generator=generator)
        for key, tensor in plan.input_tensors.items()
    }


def crop_to_roi(tensor: Tensor, of: Roi, to: Roi, voxel_size: Coordinate) -> Tensor:
    """Return the part ``to`` of a tensor (B, C, Z, Y, X) that covers the ROI ``of``: by arithmetic of its own.

    Raises:
        LatticeError: ``to`` is off the lattice of ``of``, or not inside it.
    """
    slices: list[EllipsisType | slice] = [...]
    for outer, begin, end, size in zip(of.begin, to.begin, to.end, voxel_size, strict=True):
        if (begin - outer) % size or (end - begin) % size or begin < outer:
            raise LatticeError(f"{to} is off the lattice of {of} and {tuple(voxel_size)}, or not inside it")
        slices.append(slice((begin - outer) // size, (end - outer) // size))
    part = tensor[tuple(slices)]
    if tuple(part.shape[2:]) != tuple(to.shape / voxel_size):
        raise LatticeError(f"{to} is not inside {of}, which the tensor covers")
    return part
