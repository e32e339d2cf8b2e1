"""The way of a coarse subnet's features into the bottleneck of the next finer one."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import exact, format_size
from scalenet_gp.graph import Node
from scalenet_gp.layers import Concatenate, GatedSum, Pool, ScaleAttention, Sum, Upsample
from scalenet_gp.networks.options import BottleneckJoin
from scalenet_gp.networks.parts import Parts

__all__ = ["injection"]


def injection(parts: Parts, coarse: Parts, join: BottleneckJoin = "concatenate") -> tuple[list[Node], int]:
    """Return the nodes that join the encoded tensor and the coarse features, and the channels of ``"bottleneck_join"``.

    Along the axes on which the coarse features have larger voxels than the bottleneck they are upsampled (nearest
    neighbour); along those on which they have smaller ones they are pooled (mean).

    Args:
        parts: parts of the subnet that the features enter.
        coarse: parts of the subnet before it; its features are the channels before its output.
        join: how the two become one tensor.

    Raises:
        ArgumentError: the voxel sizes do not fit; the message says which would.
    """
    _check_lattices(parts, coarse)
    prefix, spec, coarse_spec = parts.prefix, parts.options.bottleneck_spec, coarse.options.features_spec
    ratios = [c / own for c, own in zip(coarse_spec.voxel_size, spec.voxel_size, strict=True)]
    nodes: list[Node] = []
    entering = f"{coarse.prefix}out_conv_0"
    if min(ratios) < 1:
        made = f"{prefix}bottleneck_pool"
        nodes.append(Pool([entering], [made], [ratio.denominator for ratio in ratios], "mean"))
        entering = made
    if max(ratios) > 1:
        made = f"{prefix}bottleneck_upsample"
        nodes.append(Upsample([entering], [made], [ratio.numerator for ratio in ratios]))
        entering = made
    joined, keys = [f"{prefix}bottleneck_join"], [f"{prefix}{parts.encoded}", entering]
    if join == "concatenate":
        return [*nodes, Concatenate(keys, joined)], spec.channels + coarse_spec.channels
    kinds: dict[str, Callable[..., Node]] = {"sum": Sum, "gated_sum": GatedSum, "attention": ScaleAttention}
    node = kinds[join](keys, joined, [spec.channels, coarse_spec.channels], dims=len(spec.voxel_size))
    return [*nodes, node], spec.channels


def _check_lattices(parts: Parts, coarse: Parts) -> None:
    subnet, other = (repr(each.prefix[:-1]) for each in (parts, coarse))
    sizes, coarse_sizes = parts.options.bottleneck_spec.voxel_size, coarse.options.features_spec.voxel_size
    if len(sizes) != len(coarse_sizes):
        raise ArgumentError(
            f"subnet {subnet} has {len(sizes)} axes and subnet {other}, whose features enter it, {len(coarse_sizes)}"
        )
    for axis, (size, coarse_size) in enumerate(zip(sizes, coarse_sizes, strict=True)):
        if 1 not in ((coarse_size / size).numerator, (coarse_size / size).denominator):
            fitting = " or ".join(f"{_written(fit)} nm" for fit in _fitting(coarse_size, size))
            raise ArgumentError(
                f"subnet {subnet}: on axis {axis} its bottleneck has voxels of {_written(size)} nm, and subnet "
                f"{other}, whose features enter it, a top_resolution of {_written(coarse_size)} nm; one has to be a "
                f"whole multiple of the other, so give subnet {other} a top_resolution of {fitting} there"
            )


def _fitting(length: Fraction, other: Fraction) -> tuple[Fraction, Fraction]:
    """Return the nearest lengths below and above ``length`` that are whole multiples or whole parts of ``other``."""
    if length > other:
        multiple = math.floor(length / other)
        return other * multiple, other * (multiple + 1)
    parts = math.floor(other / length)
    return other / (parts + 1), other / parts


def _written(length: Fraction) -> str:
    """Return a length in the form in which it can be given exactly: ``4.6``, or ``32/3`` where no decimal is exact."""
    decimal = format_size([length])
    return decimal if exact(decimal) == length else str(length)
