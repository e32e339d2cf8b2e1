"""How a coarse subnet's features enter the bottleneck of the next finer one."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Literal, get_args

from scalenet_gp.kinds import Concatenate, GatedSum, Pool, ScaleAttention, Sum, Upsample
from scalenet_gp.node import Node, TensorSpec
from scalenet_gp.world import exact, format_size

__all__ = ["BottleneckJoin", "injection"]

BottleneckJoin = Literal["concatenate", "sum", "gated_sum", "attention"]
"""How two tensors become the one that a bottleneck reads."""


def injection(
    prefix: str,
    read: str,
    spec: TensorSpec,
    coarse: str,
    coarse_spec: TensorSpec,
    join: BottleneckJoin = "concatenate",
) -> tuple[list[Node], int]:
    """The nodes that make ``"bottleneck_join"`` of two tensors, and its channels.

    Along the axes on which the coarse features have larger voxels than the bottleneck they are upsampled (nearest
    neighbour); along those on which they have smaller ones they are pooled (mean).

    Args:
        prefix: before the name of every tensor made, as in ``"2_"``.
        read: what the bottleneck would read by itself.
        spec: its voxel size and channels.
        coarse: the coarse subnet's features.
        coarse_spec: their voxel size and channels.
        join: what is done with both.

    Raises:
        ValueError: there is no such ``join``, or the voxel sizes do not fit; the message says which would.
    """
    if join not in get_args(BottleneckJoin):
        choices = ", ".join(map(repr, get_args(BottleneckJoin)))
        raise ValueError(f"subnet {prefix[:-1]!r}: bottleneck_join is one of {choices}, not {join!r}")
    _check_lattices(prefix, spec, coarse, coarse_spec)
    ratios = [c / own for c, own in zip(coarse_spec.voxel_size, spec.voxel_size, strict=True)]
    nodes: list[Node] = []
    if min(ratios) < 1:
        made = f"{prefix}bottleneck_pool"
        nodes.append(Pool([coarse], [made], [ratio.denominator for ratio in ratios], "mean"))
        coarse = made
    if max(ratios) > 1:
        made = f"{prefix}bottleneck_upsample"
        nodes.append(Upsample([coarse], [made], [ratio.numerator for ratio in ratios]))
        coarse = made
    joined, keys = [f"{prefix}bottleneck_join"], [read, coarse]
    if join == "concatenate":
        return [*nodes, Concatenate(keys, joined)], spec.channels + coarse_spec.channels
    kinds: dict[str, Callable[..., Node]] = {"sum": Sum, "gated_sum": GatedSum, "attention": ScaleAttention}
    node = kinds[join](keys, joined, [spec.channels, coarse_spec.channels], dims=len(spec.voxel_size))
    return [*nodes, node], spec.channels


def _check_lattices(prefix: str, spec: TensorSpec, coarse: str, coarse_spec: TensorSpec) -> None:
    sizes, coarse_sizes = spec.voxel_size, coarse_spec.voxel_size
    if len(sizes) != len(coarse_sizes):
        raise ValueError(
            f"subnet {prefix[:-1]!r} has {len(sizes)} axes, {coarse!r}, which enters it, has {len(coarse_sizes)}"
        )
    for axis, (size, coarse_size) in enumerate(zip(sizes, coarse_sizes, strict=True)):
        if 1 not in ((coarse_size / size).numerator, (coarse_size / size).denominator):
            fitting = " or ".join(f"{_written(fit)} nm" for fit in _fitting(coarse_size, size))
            raise ValueError(
                f"subnet {prefix[:-1]!r}: on axis {axis}, {coarse!r} has voxels of {format_size([coarse_size])} nm and "
                f"the bottleneck that it enters has {format_size([size])} nm; one has to be a whole multiple of the "
                f"other, so give {coarse!r} {fitting} there"
            )


def _fitting(length: Fraction, other: Fraction) -> tuple[Fraction, Fraction]:
    """The nearest lengths below and above ``length`` that are whole multiples or whole parts of ``other``."""
    if length > other:
        multiple = math.floor(length / other)
        return other * multiple, other * (multiple + 1)
    parts = math.floor(other / length)
    return other / (parts + 1), other / parts


def _written(length: Fraction) -> str:
    """A length in the form in which it can be given exactly: ``4.6``, or ``32/3`` where no decimal is exact."""
    decimal = format_size([length])
    return decimal if exact(decimal) == length else str(length)
