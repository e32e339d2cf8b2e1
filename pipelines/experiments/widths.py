"""The width of a network: its search, and what it is measured by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from funlib.geometry import Coordinate, Roi

from scalenet_gp.analysis import predict_cost
from scalenet_gp.geometry import World
from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.options import Shape

__all__ = ["block_plan", "count_parameters", "macs_per_voxel", "nearest_width", "widths_of", "with_width"]

_WIDEST = 4096
_GAP = 16
"""Widths in a row that a network may refuse, as those that groups of channels do not divide."""


def count_parameters(net: LeibNet) -> int:
    """Return the number of weights."""
    return sum(parameter.numel() for parameter in net.parameters())


def block_plan(net: LeibNet, block_shape: Shape) -> Plan:
    """Return the plan of all outputs for one block (nm) of a prediction, at the origin.

    Raises:
        LatticeError: the block is not a whole number of world units.
        GraphError: it is not whole voxels of every output.
    """
    box = Roi((0,) * net.dims, Coordinate(World(net.unit).size(block_shape, "prediction.block_shape")))
    return net.plan(dict.fromkeys(net.output_keys, box))


def macs_per_voxel(net: LeibNet, block_shape: Shape) -> float:
    """Return the multiply-accumulates per voxel of the finest output to predict a block (nm).

    Raises:
        LatticeError: the block is not a whole number of world units.
        GraphError: it is not whole voxels of every output.
    """
    plan = block_plan(net, block_shape)
    sizes = [net.voxel_size[name] for name in net.output_keys]
    finest = min(sizes, key=math.prod)
    voxels = math.prod(next(iter(plan.outputs.values())).shape / finest)
    return predict_cost(net.graph, plan).total_macs / voxels


def widths_of(network: Mapping[str, Any]) -> list[int]:
    """Return the values of ``base_nc`` in the plain options of a network, in their order.

    Example:
        >>> widths_of({"kind": "scalenet", "subnets": [{"base_nc": 8}, {"base_nc": 12}]})
        [8, 12]
    """
    found = [network["base_nc"]] if "base_nc" in network else []
    return found + [width for part in network.get("subnets", ()) for width in widths_of(part)]


def with_width(network: Mapping[str, Any], width: int) -> dict[str, Any]:
    """Return the plain options of a network with another ``base_nc``.

    Args:
        network: the options, each ``base_nc`` given.
        width: the first ``base_nc``; others keep their proportion to it.

    Example:
        >>> with_width({"kind": "scalenet", "subnets": [{"base_nc": 8}, {"base_nc": 12}]}, 4)
        {'kind': 'scalenet', 'subnets': [{'base_nc': 4}, {'base_nc': 6}]}
    """
    return _scaled(network, width / widths_of(network)[0])


def _scaled(network: Mapping[str, Any], factor: float) -> dict[str, Any]:
    changed = dict(network)
    if "base_nc" in network:
        changed["base_nc"] = max(1, round(network["base_nc"] * factor))
    if "subnets" in network:
        changed["subnets"] = [_scaled(part, factor) for part in network["subnets"]]
    return changed


def nearest_width(measure: Callable[[int], float | None], target: float) -> tuple[int, float] | None:
    """Return the width whose measure is the nearest to a target by its ratio, and that measure.

    The measure grows with the width. Widths are doubled until they reach the target, and then halved in between.

    Args:
        measure: returns the measure of a width, or None where the network cannot have it.
        target: above 0.

    Returns:
        None if no width has a measure.

    Example:
        >>> nearest_width(lambda width: 10.0 * width**2, 1000)
        (10, 1000.0)
    """
    seen: dict[int, float | None] = {}

    def at(width: int) -> float:
        for candidate in range(width, width + _GAP):
            if candidate not in seen:
                seen[candidate] = measure(candidate)
            if (value := seen[candidate]) is not None:
                return value
        return math.inf

    low, high = 0, 1
    while high < _WIDEST and at(high) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if at(middle) < target:
            low = middle
        else:
            high = middle
    at(high)  # the widest of all was not measured
    known = {width: value for width, value in seen.items() if value}
    if not known:
        return None
    width = min(known, key=lambda width: (abs(math.log(known[width] / target)), width))
    return width, known[width]
