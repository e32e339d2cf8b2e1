"""Hypothesis strategies for voxel sizes, ROIs, tilings, requests and random networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from funlib.geometry import Coordinate, Roi
from hypothesis import strategies as st

from scalenet_gp import LeibNet, Node, TensorSpec, build_scalenet, build_unet
from scalenet_gp.kinds import Concatenate, ConvPass, Pool, StridedConv, TransposedConv, Upsample
from scalenet_gp.world import exact_size

__all__ = ["graphs", "networks", "requests", "rois", "scalenets", "tilings", "unets", "voxel_sizes"]

VOXEL_SIZES = {
    2: [(8, 8), (40, 4), ("4.6", "4.6"), ("10/3", 2)],
    3: [(8, 8, 8), (40, 4, 4), (50, "4.6", "4.6"), ("5.24", 4, 4)],
}


def voxel_sizes(dims: int) -> st.SearchStrategy[tuple[Fraction, ...]]:
    """Voxel sizes (nm): isotropic, anisotropic and fractional ones."""
    return st.sampled_from(VOXEL_SIZES[dims]).map(exact_size)


@st.composite
def rois(draw: st.DrawFn, voxel_size: Coordinate, near: Coordinate, most: int = 3) -> Roi:
    """ROIs of up to ``most`` voxels per axis on a lattice, not far from a world position."""
    begin = Coordinate(n // v + draw(st.integers(-2, 2)) for n, v in zip(near, voxel_size, strict=True))
    shape = Coordinate(draw(st.integers(1, most)) for _ in voxel_size)
    return Roi(begin * voxel_size, shape * voxel_size)


@st.composite
def requests(draw: st.DrawFn, net: LeibNet, most: int = 3) -> dict[str, Roi]:
    """Some of the outputs of ``net``, each with its own ROI, near one another, on either side of the origin."""
    keys = draw(st.lists(st.sampled_from(net.output_keys), min_size=1, unique=True))
    near = Coordinate(draw(st.integers(-1000, 1000)) for _ in range(net.dims))
    return {key: draw(rois(net.voxel_size[key], near, most)) for key in keys}


@st.composite
def tilings(draw: st.DrawFn, roi: Roi, voxel_size: Coordinate) -> list[Roi]:
    """Partitions of ``roi`` into unequal tiles on its lattice."""
    cuts = []
    for begin, end, size in zip(roi.begin, roi.end, voxel_size, strict=True):
        inner = list(range(begin + size, end, size))
        chosen = draw(st.lists(st.sampled_from(inner), unique=True, max_size=2)) if inner else []
        edges = sorted([begin, end, *chosen])
        cuts.append(list(itertools.pairwise(edges)))
    return [
        Roi([first for first, _ in tile], [past - first for first, past in tile]) for tile in itertools.product(*cuts)
    ]


@st.composite
def _kernels(draw: st.DrawFn, dims: int, largest: int = 3, most: int = 2) -> list[tuple[int, ...]]:
    """Kernels of one pass: even ones too, where together they do not shift by half a voxel."""
    kernels = [[draw(st.integers(1, largest)) for _ in range(dims)] for _ in range(draw(st.integers(1, most)))]
    for axis in range(dims):
        if sum(kernel[axis] - 1 for kernel in kernels) % 2:
            kernels[-1][axis] += 1
    return [tuple(kernel) for kernel in kernels]


def _factors(dims: int, largest: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(1, largest)] * dims).filter(lambda factor: max(factor) > 1)


@st.composite
def graphs(draw: st.DrawFn, *, linear: bool, dims: int | None = None, upsampling: bool = True) -> LeibNet:
    """Random graphs of every node kind: several inputs, skips, outputs that are read further on.

    Args:
        linear: without rectification and maxima, so that gradients show every dependence.
        dims: number of axes; 2 or 3 unless given.
        upsampling: with nodes that make finer tensors.
    """
    dims = draw(st.sampled_from((2, 2, 3))) if dims is None else dims
    base = draw(voxel_sizes(dims))
    specs: dict[str, TensorSpec] = {}
    for index in range(draw(st.integers(1, 3))):
        multiple = draw(st.tuples(*[st.sampled_from((1, 1, 2, 3))] * dims))
        specs[f"in_{index}"] = TensorSpec(_times(base, multiple), draw(st.integers(1, 2)))
    inputs = dict(specs)
    activation = "Identity" if linear else draw(st.sampled_from(("ReLU", "LeakyReLU", "Tanh")))
    nodes: list[Node] = []
    kinds = ["conv", "conv", "down", "up", "join"] if upsampling else ["conv", "conv", "down", "join"]
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(kinds))
        name = f"t_{len(nodes)}"
        read = draw(st.sampled_from(sorted(specs)))
        spec, out_nc = specs[read], draw(st.integers(1, 2))
        alike = [key for key in specs if specs[key].voxel_size == spec.voxel_size and key != read]
        if kind == "join" and alike:
            others = draw(st.lists(st.sampled_from(alike), min_size=1, max_size=2, unique=True))
            node: Node = Concatenate([read, *others], [name])
        elif kind == "down" and all(size <= 3 * b for size, b in zip(spec.voxel_size, base, strict=True)):
            node = draw(_downsampling(read, name, spec.channels, out_nc, dims, linear, activation))
        elif kind == "up" and any(size > b for size, b in zip(spec.voxel_size, base, strict=True)):
            towards = [f for f in (_ratio(spec, other) for other in specs.values()) if f is not None]
            factor = draw(st.sampled_from(towards)) if towards else draw(_factors(dims, 2))
            if draw(st.booleans()):
                node = Upsample([read], [name], factor)
            else:
                node = TransposedConv([read], [name], spec.channels, out_nc, factor, activation=activation)
        else:
            node = draw(_conv_pass(read, name, spec.channels, out_nc, dims, linear, activation))
        nodes.append(node)
        (specs[name],) = node.output_specs(*(specs[key] for key in node.input_keys))
    used = {key for node in nodes for key in node.input_keys}
    for key in inputs:
        if key not in used:
            nodes.append(draw(_conv_pass(key, f"t_{len(nodes)}", inputs[key].channels, 1, dims, linear, activation)))
            used.add(key)
    made = [node.output_keys[0] for node in nodes]
    also = draw(st.lists(st.sampled_from(made), unique=True, max_size=2))
    outputs = [key for key in made if key not in used or key in also]
    return LeibNet(draw(st.permutations(nodes)), inputs, outputs, name="random")


@st.composite
def _downsampling(
    draw: st.DrawFn, read: str, name: str, nc: int, out_nc: int, dims: int, linear: bool, activation: str
) -> Node:
    factor = draw(_factors(dims))
    if draw(st.booleans()):
        return Pool([read], [name], factor, "mean" if linear else draw(st.sampled_from(("max", "mean"))))
    kernel = [draw(st.sampled_from([k for k in (f - 2, f, f + 2) if k > 0])) for f in factor]
    return StridedConv([read], [name], nc, out_nc, factor, kernel, activation=activation)


@st.composite
def _conv_pass(
    draw: st.DrawFn, read: str, name: str, nc: int, out_nc: int, dims: int, linear: bool, activation: str
) -> Node:
    return ConvPass(
        [read],
        [name],
        nc,
        out_nc,
        draw(_kernels(dims)),
        activation=activation,
        residual=draw(st.booleans()),
        norm_layer=None if linear else draw(st.sampled_from((None, "batch"))),
    )


def _arguments(draw: st.DrawFn, dims: int, linear: bool, levels: int) -> dict[str, Any]:
    return {
        "downsample_factors": [draw(_factors(dims)) for _ in range(levels)],
        "kernel_sizes": draw(_kernels(dims)),
        "input_nc": draw(st.integers(1, 2)),
        "output_nc": draw(st.integers(1, 2)),
        "base_nc": draw(st.integers(1, 2)),
        "nc_increase_factor": draw(st.integers(1, 2)),
        "num_final_convs": draw(st.integers(1, 2)),
        "residual": draw(st.booleans()),
        "activation": "Identity" if linear else "ReLU",
        "final_activation": "Identity" if linear else "Sigmoid",
        "norm_layer": None if linear else draw(st.sampled_from((None, "batch"))),
        "downsample_mode": draw(st.sampled_from(("mean", "strided") if linear else ("max", "mean", "strided"))),
        "upsample_mode": draw(st.sampled_from(("nearest", "transposed"))),
    }


@st.composite
def unets(draw: st.DrawFn, *, linear: bool) -> LeibNet:
    """U-Nets of one or two levels with anisotropic kernels and factors; ``linear`` as for :func:`graphs`."""
    dims = draw(st.sampled_from((2, 2, 3)))
    levels = draw(st.integers(1, 2)) if dims == 2 else 1
    return build_unet(draw(voxel_sizes(dims)), **_arguments(draw, dims, linear, levels))


@st.composite
def scalenets(draw: st.DrawFn, *, linear: bool) -> LeibNet:
    """ScaleNets of two or three scales with anisotropic kernels and factors; ``linear`` as for :func:`graphs`."""
    dims = draw(st.sampled_from((2, 2, 3)))
    scales = draw(st.integers(2, 3)) if dims == 2 else 2
    voxel_size = draw(voxel_sizes(dims))
    subnets: list[dict[str, Any]] = []
    for _ in range(scales):
        arguments = _arguments(draw, dims, linear, levels=1)
        subnets.insert(0, {"top_resolution": voxel_size, **arguments})
        voxel_size = _times(voxel_size, arguments["downsample_factors"][0])
    return build_scalenet(subnets)


def networks(*, linear: bool) -> st.SearchStrategy[LeibNet]:
    """Random graphs, U-Nets and ScaleNets; ``linear`` as for :func:`graphs`."""
    return st.one_of(graphs(linear=linear), unets(linear=linear), scalenets(linear=linear))


def _times(voxel_size: Sequence[Fraction], factor: Sequence[int]) -> tuple[Fraction, ...]:
    return tuple(size * f for size, f in zip(voxel_size, factor, strict=True))


def _ratio(coarse: TensorSpec, fine: TensorSpec) -> tuple[int, ...] | None:
    """The factor from ``coarse`` to ``fine``, where it is one."""
    ratio = [c / f for c, f in zip(coarse.voxel_size, fine.voxel_size, strict=True)]
    whole = all(r.denominator == 1 for r in ratio) and math.prod(ratio) > 1
    return tuple(int(r) for r in ratio) if whole else None
