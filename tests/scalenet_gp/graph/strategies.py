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
from scalenet_gp.geometry.world import exact_size
from scalenet_gp.layers import (
    AtrousPyramid,
    AttentionGate,
    Concatenate,
    ConvPass,
    GatedSum,
    Head,
    Pool,
    ScaleAttention,
    StridedConv,
    Sum,
    TransposedConv,
    Upsample,
)

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
    """Random graphs of every tileable node kind: several inputs, skips, outputs that are read further on.

    All but the variational bottleneck, whose outputs are random or, in evaluation, one tensor of two names.

    Args:
        linear: without rectification, maxima and gates, so that gradients show every dependence.
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
    kinds = ["conv", "conv", "head", "down", "join", *(["up"] if upsampling else [])]
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(kinds))
        name = f"t_{len(nodes)}"
        read = draw(st.sampled_from(sorted(specs)))
        spec, out_nc = specs[read], draw(st.integers(1, 2))
        alike = [key for key in specs if specs[key].voxel_size == spec.voxel_size and key != read]
        if kind == "join" and alike:
            others = draw(st.lists(st.sampled_from(alike), min_size=1, max_size=2, unique=True))
            node = draw(_joining({key: specs[key].channels for key in (read, *others)}, name, dims, linear))
        elif kind == "down" and all(size <= 3 * b for size, b in zip(spec.voxel_size, base, strict=True)):
            node = draw(_downsampling(read, name, spec.channels, out_nc, dims, linear, activation))
        elif kind == "up" and any(size > b for size, b in zip(spec.voxel_size, base, strict=True)):
            towards = [f for f in (_ratio(spec, other) for other in specs.values()) if f is not None]
            factor = draw(st.sampled_from(towards)) if towards else draw(_factors(dims, 2))
            node = draw(_upsampling(read, name, spec.channels, out_nc, factor, activation))
        elif kind == "head":
            node = draw(_head(read, name, spec.channels, dims, linear, activation))
        else:
            node = draw(_convolution(read, name, spec.channels, out_nc, dims, linear, activation))
        nodes.append(node)
        specs.update(zip(node.output_keys, node.output_specs(*(specs[key] for key in node.input_keys)), strict=True))
    used = {key for node in nodes for key in node.input_keys}
    for key in inputs:
        if key not in used:
            nodes.append(draw(_conv_pass(key, f"t_{len(nodes)}", inputs[key].channels, 1, dims, linear, activation)))
            used.add(key)
    made = [key for node in nodes for key in node.output_keys]
    also = draw(st.lists(st.sampled_from(made), unique=True, max_size=2))
    outputs = [key for key in made if key not in used or key in also]
    return LeibNet(draw(st.permutations(nodes)), inputs, outputs, name="random")


@st.composite
def _joining(draw: st.DrawFn, read: dict[str, int], name: str, dims: int, linear: bool) -> Node:
    keys, ncs = list(read), list(read.values())
    kinds = ["concatenate", "sum"] if linear else ["concatenate", "sum", "gated_sum", "attention", "gate"]
    kind = draw(st.sampled_from(kinds))
    if kind == "gate":
        return AttentionGate(keys[:2], [name], *ncs[:2], dims=dims)
    if kind == "concatenate":
        return Concatenate(keys, [name])
    return {"sum": Sum, "gated_sum": GatedSum, "attention": ScaleAttention}[kind](keys, [name], ncs, dims=dims)


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
def _upsampling(
    draw: st.DrawFn, read: str, name: str, nc: int, out_nc: int, factor: tuple[int, ...], activation: str
) -> Node:
    mode = draw(st.sampled_from(("nearest", "linear", "transposed")))
    if mode == "transposed":
        return TransposedConv([read], [name], nc, out_nc, factor, activation=activation)
    return Upsample([read], [name], factor, mode)


@st.composite
def _head(draw: st.DrawFn, read: str, name: str, nc: int, dims: int, linear: bool, activation: str) -> Node:
    classes = draw(st.sampled_from((["a"], ["a", "b"])))
    hidden = draw(st.sampled_from(((), (2,))))
    final = "Identity" if linear else draw(st.sampled_from(("Sigmoid", "Identity")))
    return Head([read], [name], nc, classes, hidden, activation, final, dims)


@st.composite
def _convolution(
    draw: st.DrawFn, read: str, name: str, nc: int, out_nc: int, dims: int, linear: bool, activation: str
) -> Node:
    if draw(st.integers(0, 3)):
        return draw(_conv_pass(read, name, nc, out_nc, dims, linear, activation))
    dilations = draw(st.sampled_from(((1, 2), (2,), (1, (1, 2, 3)[:dims]))))
    return AtrousPyramid([read], [name], nc, out_nc, dilations, activation=activation, dims=dims)


@st.composite
def _conv_pass(
    draw: st.DrawFn, read: str, name: str, nc: int, out_nc: int, dims: int, linear: bool, activation: str
) -> Node:
    kernels, residual = draw(_kernels(dims)), draw(st.booleans())
    return ConvPass(
        [read],
        [name],
        nc,
        out_nc,
        kernels,
        activation=activation,
        residual=residual,
        norm_layer=None if linear else draw(st.sampled_from((None, "batch"))),
        dilations=draw(_dilations(kernels)),
        **({} if residual else draw(st.sampled_from(({}, {"groups": math.gcd(nc, out_nc)}, {"separable": True})))),
    )


@st.composite
def _dilations(draw: st.DrawFn, kernels: list[tuple[int, ...]]) -> list[tuple[int, ...]] | None:
    """Dilations of some odd kernels; those of even ones could shift by half a voxel."""
    if draw(st.booleans()):
        return None
    return [tuple(draw(st.integers(1, 2)) if k % 2 else 1 for k in kernel) for kernel in kernels]


def _arguments(draw: st.DrawFn, dims: int, linear: bool, levels: int) -> dict[str, Any]:
    kernels, residual = draw(_kernels(dims)), draw(st.booleans())
    heads = draw(st.sampled_from((None, {"groups": ["a", "b"]})))
    output_nc = draw(st.integers(0 if heads else 1, 2))
    return {
        "downsample_factors": [draw(_factors(dims)) for _ in range(levels)],
        "kernel_sizes": kernels,
        "dilations": draw(_dilations(kernels)),
        "separable": False if residual else draw(st.booleans()),
        "input_nc": draw(st.integers(1, 2)),
        "output_nc": output_nc,
        "heads": heads,
        "base_nc": draw(st.integers(1, 2)),
        "num_final_convs": draw(st.integers(1, 2)),
        "nc_increase_factor": draw(st.integers(1, 2)),
        "residual": residual,
        "activation": "Identity" if linear else draw(st.sampled_from(("ReLU", "GELU"))),
        "final_activation": "Identity" if linear else "Sigmoid",
        "norm_layer": None if linear else draw(st.sampled_from((None, "batch"))),
        "downsample_mode": draw(st.sampled_from(("mean", "strided") if linear else ("max", "mean", "strided"))),
        "upsample_mode": draw(st.sampled_from(("nearest", "linear", "transposed"))),
        "attention_gates": False if linear else draw(st.booleans()),
        "deep_supervision": draw(st.booleans()) if levels > 1 and output_nc else False,
        "bottleneck": draw(st.sampled_from((None, None, "atrous"))) if dims == 2 and levels == 1 else None,
    }


@st.composite
def unets(draw: st.DrawFn, *, linear: bool) -> LeibNet:
    """U-Nets of one or two levels with anisotropic kernels and factors; ``linear`` as for :func:`graphs`."""
    dims = draw(st.sampled_from((2, 2, 3)))
    levels = draw(st.integers(1, 2)) if dims == 2 else 1
    return build_unet(draw(voxel_sizes(dims)), **_arguments(draw, dims, linear, levels))


@st.composite
def scalenets(draw: st.DrawFn, *, linear: bool) -> LeibNet:
    """ScaleNets of two or three scales, their voxel sizes in many ratios; ``linear`` as for :func:`graphs`."""
    dims = draw(st.sampled_from((2, 2, 3)))
    scales = draw(st.integers(2, 3)) if dims == 2 else 2
    joins = ("concatenate", "sum") if linear else ("concatenate", "sum", "gated_sum", "attention")
    ratios = st.tuples(*[st.sampled_from([Fraction(r) for r in (1, 1, 2, 3, "1/2")])] * dims)
    voxel_size = draw(voxel_sizes(dims))
    subnets: list[dict[str, Any]] = []
    for _ in range(scales):
        arguments = _arguments(draw, dims, linear, levels=1)
        subnets.insert(0, {"top_resolution": voxel_size, "bottleneck_join": draw(st.sampled_from(joins)), **arguments})
        factor = arguments["downsample_factors"][0]
        # from coarse to fine
        ratio = draw(ratios.filter(lambda ratio, factor=factor: math.prod(_times(ratio, factor)) >= 1))
        voxel_size = _times(_times(voxel_size, factor), ratio)
    del subnets[0]["bottleneck_join"]
    return build_scalenet(subnets)


def networks(*, linear: bool) -> st.SearchStrategy[LeibNet]:
    """Random graphs, U-Nets and ScaleNets; ``linear`` as for :func:`graphs`."""
    return st.one_of(graphs(linear=linear), unets(linear=linear), scalenets(linear=linear))


def _times(voxel_size: Sequence[Fraction], factor: Sequence[int | Fraction]) -> tuple[Fraction, ...]:
    return tuple(size * f for size, f in zip(voxel_size, factor, strict=True))


def _ratio(coarse: TensorSpec, fine: TensorSpec) -> tuple[int, ...] | None:
    """The factor from ``coarse`` to ``fine``, where it is one."""
    ratio = [c / f for c, f in zip(coarse.voxel_size, fine.voxel_size, strict=True)]
    whole = all(r.denominator == 1 for r in ratio) and math.prod(ratio) > 1
    return tuple(int(r) for r in ratio) if whole else None
