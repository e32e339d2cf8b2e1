"""Tensors of a network for a size of output, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from funlib.geometry import Coordinate, Roi
from rich.box import SIMPLE_HEAD
from rich.table import Table

from scalenet_gp.analysis import predict_cost
from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import World, format_size
from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet

__all__ = ["plan_of_shape", "plan_table"]


def plan_of_shape(net: LeibNet, voxels: Sequence[int]) -> Plan:
    """Return the plan for ``voxels`` of the finest output, and the same box of the coarser ones, from the origin.

    Raises:
        ConfigError: there is not one positive number of voxels for each axis, or the box is not a whole number of
            voxels of a coarser output; the message proposes one that is.
    """
    finest = min(net.output_keys, key=lambda key: tuple(net.voxel_size[key]))
    if len(voxels) != net.dims or min(voxels) < 1:
        raise ConfigError(f"the output size needs {net.dims} positive numbers of voxels, not {tuple(voxels)}")
    sizes = zip(*(net.voxel_size[key] for key in net.output_keys), strict=True)
    steps = [math.lcm(*lengths) // fine for lengths, fine in zip(sizes, net.voxel_size[finest], strict=True)]
    if any(count % step for count, step in zip(voxels, steps, strict=True)):
        nearest = tuple(-(-count // step) * step for count, step in zip(voxels, steps, strict=True))
        raise ConfigError(
            f"an output of {tuple(voxels)} voxels is not a whole number of voxels of the coarser outputs; multiples of "
            f"{tuple(steps)} are, {nearest} for one"
        )
    box = Roi((0,) * net.dims, net.voxel_size[finest] * Coordinate(voxels))
    return net.plan(dict.fromkeys(net.output_keys, box))


def plan_table(net: LeibNet, plan: Plan) -> Table:
    """Return a table of every tensor of a plan: its ROI (nm), shape, channels, memory and cost of one float32 sample.

    The cost is that of the node that makes the tensor in a forward pass, in millions of multiply-accumulates. The last
    rows have the sums, and the cost of a training step.
    """
    world = World(net.unit)
    cost = predict_cost(net.graph, plan, training=True)
    macs = {node.output_keys[0]: cost.macs.get(name, 0) for name, node in net.graph.nodes.items()}
    weights = sum(parameter.numel() for parameter in net.parameters())
    table = Table(title=f"{net.name}: {weights:,} weights", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("tensor")
    for column in ("voxel size (nm)", "begin (nm)", "end (nm)", "shape", "channels", "MiB", "MMAC"):
        table.add_column(column, justify="right")
    for tensor in plan.tensors:
        style = "bold" if tensor.name in plan.inputs or tensor.name in plan.outputs else None
        table.add_row(
            tensor.name,
            format_size(net.specs[tensor.name].voxel_size),
            ", ".join(f"{float(x):g}" for x in world.size_in_nm(tensor.roi.begin)),
            ", ".join(f"{float(x):g}" for x in world.size_in_nm(tensor.roi.end)),
            " × ".join(map(str, tensor.shape)),
            str(tensor.channels),
            f"{tensor.numbytes() / 2**20:.2f}",
            f"{macs[tensor.name] / 1e6:,.1f}" if macs.get(tensor.name) else "",
            style=style,
        )
    total = sum(tensor.numbytes() for tensor in plan.tensors)
    table.add_section()
    table.add_row("all tensors", "", "", "", "", "", f"{total / 2**20:.2f}", f"{sum(cost.macs.values()) / 1e6:,.1f}")
    table.add_row("a training step", "", "", "", "", "", f"{cost.peak / 2**20:.2f}", f"{cost.total_macs / 1e6:,.1f}")
    return table
