"""How much of the inputs one output voxel sees: by the plan, and by the gradient."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from funlib.geometry import Coordinate, Roi
from torch import Tensor

from scalenet_gp.errors import GraphError, UnknownNameError
from scalenet_gp.graph import Plan

if TYPE_CHECKING:
    from scalenet_gp.leibnet import LeibNet

__all__ = ["EffectiveField", "effective_receptive_field", "receptive_field"]


def receptive_field(net: LeibNet, output: str) -> dict[str, Coordinate]:
    """The size (world units) of what one voxel of ``output`` depends on, for every input that it depends on.

    It is theoretical: what the geometry lets through, whatever the weights. Where the voxel lies in the coarser voxels
    makes a difference of some voxels; the largest size along each axis is given.

    Raises:
        KeyError: the network has no such output.
    """
    origin = _of_voxel(net, output, Coordinate((0,) * net.dims))
    sizes = {key: roi.shape for key, roi in origin.inputs.items()}
    voxel_size = net.voxel_size[output]
    for place in range(1, max(origin.step / voxel_size)):
        # What happens along one axis is no matter to the others: one plan tells about a place on each of them.
        for key, roi in _of_voxel(net, output, voxel_size * place).inputs.items():
            sizes[key] = Coordinate(map(max, sizes[key], roi.shape))
    return sizes


@dataclass(frozen=True, eq=False)
class EffectiveField:
    """Where in one input the gradient of an output voxel lies.

    Attributes:
        roi: the world ROI that the output voxel can depend on.
        gradient: mean absolute gradient of each voxel in it, (Z, Y, X), summed over the input's channels.
        extent: the shortest stretch (nm, exact) along each axis that holds the asked share of it.
    """

    roi: Roi
    gradient: Tensor
    extent: tuple[Fraction, ...]


def effective_receptive_field(
    net: LeibNet, output: str, *, samples: int = 16, share: float = 0.95, seed: int = 0
) -> dict[str, EffectiveField]:
    """What the voxel of ``output`` at the world's origin really looks at, for every input that it depends on.

    The effective receptive field (Luo et al. 2016, arXiv 1701.04128): the mean absolute gradient of the voxel, summed
    over its channels, with respect to inputs of standard normal noise, with the weights as they are and the modules in
    evaluation mode. It is a small part of the theoretical one as a rule.

    Args:
        net: the network; it is left as it is.
        output: name of the output.
        samples: random inputs that the mean is taken over.
        share: of the gradient, that the extent has to hold.
        seed: of the random inputs; torch's own generators are not touched.

    Raises:
        KeyError: the network has no such output.
        ValueError: ``samples`` is not positive, ``share`` is not in (0, 1], or there is no gradient, as where no unit
            is active.
    """
    if samples < 1 or not 0 < share <= 1:
        raise GraphError(f"samples is at least 1 and share in (0, 1], not {samples} and {share}")
    plan = _of_voxel(net, output, Coordinate((0,) * net.dims))
    module = copy.deepcopy(net.specialise(plan)).eval().requires_grad_(False)
    like = next(module.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(seed)
    totals = {key: torch.zeros(tensor.shape, dtype=torch.float64) for key, tensor in plan.input_tensors.items()}
    for _ in range(samples):
        inputs = [
            torch.randn((1, tensor.channels, *tensor.shape), generator=generator).to(like).requires_grad_()
            for tensor in plan.input_tensors.values()
        ]
        (made,) = module(*inputs)
        for total, gradient in zip(totals.values(), torch.autograd.grad(made.sum(), inputs), strict=True):
            total += gradient.detach().abs().sum(dim=(0, 1)).to(total)
    if not any(total.any() for total in totals.values()):
        raise GraphError(f"{output!r} has no gradient for any of {samples} random inputs: no unit is active")
    return {
        key: EffectiveField(plan.inputs[key], total / samples, _extent(total, net.specs[key].voxel_size, share))
        for key, total in totals.items()
    }


def _of_voxel(net: LeibNet, output: str, begin: Coordinate) -> Plan:
    if output not in net.output_keys:
        raise UnknownNameError(f"there is no output {output!r}; there are {', '.join(net.output_keys)}")
    return net.plan({output: Roi(begin, net.voxel_size[output])})


def _extent(gradient: Tensor, voxel_size: tuple[Fraction, ...], share: float) -> tuple[Fraction, ...]:
    voxels = []
    for axis in range(gradient.dim()):
        others = [other for other in range(gradient.dim()) if other != axis]
        voxels.append(_shortest(gradient.sum(dim=others).tolist(), share))
    return tuple(n * size for n, size in zip(voxels, voxel_size, strict=True))


def _shortest(profile: list[float], share: float) -> int:
    """How many values in a row, at least, hold ``share`` of the sum of ``profile``."""
    upto = [0.0, *itertools.accumulate(profile)]
    wanted = share * upto[-1] * (1 - 1e-9)  # what rounding takes from the sum
    past, shortest = 0, len(profile)
    for first in range(len(profile)):
        while past < len(profile) and upto[past] - upto[first] < wanted:
            past += 1
        if upto[past] - upto[first] >= wanted:
            shortest = min(shortest, past - first)
    return shortest
