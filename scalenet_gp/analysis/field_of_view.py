"""Receptive fields: the part of the inputs that an output voxel depends on, by the plan and by the gradient."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from fractions import Fraction

import torch
from funlib.geometry import Coordinate, Roi
from torch import Tensor

from scalenet_gp.errors import ArgumentError, GraphError
from scalenet_gp.graph import Graph, Plan, SpecializedNet

__all__ = ["EffectiveField", "effective_receptive_field", "receptive_field"]


def receptive_field(graph: Graph, output: str) -> dict[str, Coordinate]:
    """Return the size (world units) of the part of each input that one voxel of ``output`` can depend on.

    It is the theoretical receptive field, whatever the weights. It differs by some voxels with the position of the
    output voxel in the coarser voxels; the largest size along each axis is returned.

    Args:
        graph: the graph.
        output: name of the output.

    Raises:
        UnknownNameError: the graph has no such output.

    Example:
        >>> from scalenet_gp import build_unet
        >>> receptive_field(build_unet((8, 8), base_nc=2).graph, "output")
        {'input': (352, 352)}
    """
    origin = _of_voxel(graph, output, Coordinate((0,) * graph.dims))
    sizes = {key: roi.shape for key, roi in origin.inputs.items()}
    voxel_size = graph.voxel_size[output]
    for place in range(1, max(origin.step / voxel_size)):
        # Axes are independent: one request tells about a position on each of them.
        needed = graph.required_rois({output: Roi(voxel_size * place, voxel_size)})
        for key, size in sizes.items():
            sizes[key] = Coordinate(map(max, size, needed[key].shape))
    return sizes


@dataclass(frozen=True, eq=False)
class EffectiveField:
    """The gradient of an output voxel with respect to one input.

    Attributes:
        roi: the world ROI that the output voxel can depend on.
        gradient: mean absolute gradient of each voxel in it, (Z, Y, X), summed over the input's channels.
        extent: the shortest length (nm, exact) along each axis that holds the requested share of the gradient.

    Example:
        >>> from scalenet_gp import build_unet
        >>> field = effective_receptive_field(build_unet((8, 8), base_nc=2).graph, "output", samples=2)["input"]
        >>> field.extent[0] <= field.roi.shape[0]
        True
    """

    roi: Roi
    gradient: Tensor
    extent: tuple[Fraction, ...]


def effective_receptive_field(
    graph: Graph, output: str, *, samples: int = 16, share: float = 0.95, seed: int = 0
) -> dict[str, EffectiveField]:
    """Measure the effective receptive field (Luo et al. 2016, arXiv 1701.04128) of one voxel, for every input.

    It is the mean absolute gradient of the voxel of ``output`` at the world's origin, summed over its channels, with
    respect to inputs of standard normal noise, with the present weights and the modules in evaluation mode. As a rule
    it is a small part of the theoretical receptive field.

    Args:
        graph: the graph; it is left as it is.
        output: name of the output.
        samples: number of random inputs to average over.
        share: share of the gradient that the extent has to hold.
        seed: seed of the random inputs; torch's own generators are not touched.

    Returns:
        The field of every input that the voxel depends on.

    Raises:
        UnknownNameError: the graph has no such output.
        ArgumentError: ``samples`` is not positive, or ``share`` is not in (0, 1].
        GraphError: the gradient is zero, as when no unit is active.

    Example:
        >>> from scalenet_gp import build_unet
        >>> field = effective_receptive_field(build_unet((8, 8), base_nc=2).graph, "output", samples=2)["input"]
        >>> field.gradient.shape
        torch.Size([44, 44])
    """
    if samples < 1 or not 0 < share <= 1:
        raise ArgumentError(f"samples is at least 1 and share in (0, 1], not {samples} and {share}")
    plan = _of_voxel(graph, output, Coordinate((0,) * graph.dims))
    module = copy.deepcopy(SpecializedNet(graph, plan)).eval().requires_grad_(False)
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
        key: EffectiveField(plan.inputs[key], total / samples, _extent(total, graph.specs[key].voxel_size, share))
        for key, total in totals.items()
    }


def _of_voxel(graph: Graph, output: str, begin: Coordinate) -> Plan:
    graph.check_output(output)
    return graph.plan({output: Roi(begin, graph.voxel_size[output])})


def _extent(gradient: Tensor, voxel_size: tuple[Fraction, ...], share: float) -> tuple[Fraction, ...]:
    voxels = []
    for axis in range(gradient.dim()):
        others = [other for other in range(gradient.dim()) if other != axis]
        voxels.append(_shortest(gradient.sum(dim=others).tolist(), share))
    return tuple(n * size for n, size in zip(voxels, voxel_size, strict=True))


def _shortest(profile: list[float], share: float) -> int:
    """Return the smallest number of values in a row that hold ``share`` of the sum of ``profile``."""
    upto = [0.0, *itertools.accumulate(profile)]
    wanted = share * upto[-1] * (1 - 1e-9)  # tolerates rounding of the sum
    past, shortest = 0, len(profile)
    for first in range(len(profile)):
        while past < len(profile) and upto[past] - upto[first] < wanted:
            past += 1
        if upto[past] - upto[first] >= wanted:
            shortest = min(shortest, past - first)
    return shortest
