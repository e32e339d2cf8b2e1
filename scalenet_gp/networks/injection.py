"""The way of coarse subnets' features into a finer one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import exact, format_size
from scalenet_gp.graph import Node, TensorSpec
from scalenet_gp.layers import Concatenate, GatedSum, Pool, ScaleAttention, Sum, Upsample
from scalenet_gp.networks.unet_options import BottleneckJoin

__all__ = ["Features", "injection"]


@dataclass(frozen=True, slots=True)
class Features:
    """Features of a subnet that enter finer ones.

    Attributes:
        prefix: text before the names of the subnet's tensors.
        key: name of the tensor.
        spec: its voxel size and channels.
    """

    prefix: str
    key: str
    spec: TensorSpec


def injection(
    prefix: str, place: str, own: str, spec: TensorSpec, coarse: Sequence[Features], join: BottleneckJoin
) -> tuple[list[Node], int]:
    """Return the nodes that join a tensor and coarse features as ``"<place>_join"``, and the channels of that.

    Along the axes on which the coarse features have larger voxels than the tensor they are upsampled (nearest
    neighbor); along those on which they have smaller ones they are pooled (mean).

    Args:
        prefix: text before the names of the tensors of the subnet that the features enter.
        place: the place in it, as ``"bottleneck"``.
        own: name of its tensor there.
        spec: voxel size and channels of that tensor.
        coarse: the features, the last those of the subnet before it.
        join: how they become one tensor.

    Raises:
        ArgumentError: the voxel sizes do not fit; the message says which would.
    """
    nodes: list[Node] = []
    keys, channels = [own], [spec.channels]
    for features in coarse:
        name = prefix + place if features is coarse[-1] else f"{prefix}{place}_from_{features.prefix[:-1]}"
        made, key = _resized(prefix, place, name, spec.voxel_size, features)
        nodes += made
        keys.append(key)
        channels.append(features.spec.channels)
    joined = [f"{prefix}{place}_join"]
    if join == "concatenate":
        return [*nodes, Concatenate(keys, joined)], sum(channels)
    kinds: dict[str, Callable[..., Node]] = {"sum": Sum, "gated_sum": GatedSum, "attention": ScaleAttention}
    return [*nodes, kinds[join](keys, joined, channels, dims=len(spec.voxel_size))], spec.channels


def _resized(
    prefix: str, place: str, name: str, voxel_size: tuple[Fraction, ...], features: Features
) -> tuple[list[Node], str]:
    """Return the nodes that bring features to a voxel size, and the name of the tensor that they make."""
    _check_lattices(prefix, place, voxel_size, features)
    ratios = [c / own for c, own in zip(features.spec.voxel_size, voxel_size, strict=True)]
    nodes: list[Node] = []
    key = features.key
    if min(ratios) < 1:
        nodes.append(Pool([key], [f"{name}_pool"], [ratio.denominator for ratio in ratios], "mean"))
        key = f"{name}_pool"
    if max(ratios) > 1:
        nodes.append(Upsample([key], [f"{name}_upsample"], [ratio.numerator for ratio in ratios]))
        key = f"{name}_upsample"
    return nodes, key


def _check_lattices(prefix: str, place: str, sizes: tuple[Fraction, ...], features: Features) -> None:
    subnet, other, coarse_sizes = repr(prefix[:-1]), repr(features.prefix[:-1]), features.spec.voxel_size
    if len(sizes) != len(coarse_sizes):
        raise ArgumentError(
            f"subnet {subnet} has {len(sizes)} axes and subnet {other}, whose features enter it, {len(coarse_sizes)}"
        )
    for axis, (size, coarse_size) in enumerate(zip(sizes, coarse_sizes, strict=True)):
        if 1 not in ((coarse_size / size).numerator, (coarse_size / size).denominator):
            fitting = " or ".join(f"{_written(fit)} nm" for fit in _fitting(coarse_size, size))
            raise ArgumentError(
                f"subnet {subnet}: on axis {axis} its {place} has voxels of {_written(size)} nm, and subnet "
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
