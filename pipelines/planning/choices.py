"""Choices of a run file by the fingerprint of its data, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from funlib.geometry import Coordinate, Roi

from scalenet_gp.analysis import predict_cost
from scalenet_gp.errors import ConfigError, GraphError, ScaleNetError
from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks import build_scalenet
from scalenet_gp.pipelines.config import DataConfig
from scalenet_gp.pipelines.data import Dataset, Datasets, Source, context_shares, resolve_sources
from scalenet_gp.pipelines.planning.fingerprint import Fingerprint, Size, doubled, growth, provisional_config, serves
from scalenet_gp.volumes import StrPath

__all__ = [
    "MIDDLE",
    "NetworkChoice",
    "Scale",
    "choose_network",
    "choose_scales",
    "choose_voxel_size",
    "training_memory",
]

_THICK = 4
_THIN = 2
"""Voxels that the thinnest class, and the thinnest membrane, has across its middle."""

_MEMBRANES = ("membrane", "boundary")
_SCALES = 5
_POWERS = 11

_DEFAULT = (12, 4)
"""Channels and samples that the package has unless a run file says others."""

_MORE = ((24, (8, 4)), (16, (8, 4)), (12, (8,)))
"""Channels and samples to try first in memory that a user has named.

Samples do not get larger: several small ones teach more than a large one.
"""

_FEWER = tuple((width, (4, 2, 1)) for width in (12, 8, 6, 4))

DEFAULT_MEMORY = 8 * 2**30
"""Bytes that a step of training may take, if nobody has named them."""

MIDDLE = 3 / 5
"""Part of the field of view along each axis, around its middle, of which half has to be recorded.

90 % of the gradient of an output voxel lies in it (`effective_receptive_field`, networks of two and three scales).
"""

_FLAT_LEVELS = 2
"""Levels of a scale, at most, whose kernels leave a coarse axis alone. Their work grows less from level to level."""

_ASKED = 32
"""Sources that a choice opens, spread evenly over all of them."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale of the network, and the reason for it.

    Attributes:
        voxel_size: nm.
        reason: a sentence.

    Example:
        >>> Scale((Fraction(8), Fraction(8), Fraction(8)), "the finest there is").reason
        'the finest there is'
    """

    voxel_size: Size
    reason: str


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """A network and its samples.

    Attributes:
        scales: from coarse to fine.
        network: the part ``network`` of a run file.
        end: why there is no coarser scale.
        width: channels at the finest level of a scale.
        batch: samples in a batch.
        crop: nm that the outputs of a sample cover; None for the default.
        voxels: voxels of the finest output of a sample.
        memory: predicted peak memory of a training step, bytes.
        block: nm of a block of prediction.
        share: mean share of the middle of the field of view that is recorded.
    """

    scales: Sequence[Scale]
    network: dict[str, Any]
    end: str
    width: int
    batch: int
    crop: Size | None
    voxels: int
    memory: int
    block: Size
    share: float = field(default=1.0)


def is_membrane(name: str) -> bool:
    """Return whether a class is a membrane by its name, of which two voxels across are enough.

    Example:
        >>> is_membrane("mito_mem"), is_membrane("cell_membrane"), is_membrane("mito")
        (True, True, False)
    """
    return name.endswith("_mem") or any(word in name for word in _MEMBRANES)


def choose_voxel_size(fingerprint: Fingerprint, data: DataConfig, folder: StrPath) -> Scale:
    """Return the coarsest voxel size at which every class is still a few voxels thick.

    Raises:
        ConfigError: there is no voxel size that all sources have.
    """
    needed = {
        name: one.thickness[1] / (_THIN if is_membrane(name) else _THICK)
        for name, one in fingerprint.classes.items()
        if one.thickness is not None
    }
    thinnest = min(needed, key=lambda name: (needed[name], name)) if needed else None
    sizes = _common_sizes(fingerprint, data, folder)
    if thinnest is None:
        return Scale(sizes[0], "the finest that all sources have; no thickness could be measured")
    fitting = [size for size in sizes if float(min(size)) <= needed[thinnest]]
    chosen = fitting[-1] if fitting else sizes[0]
    thickness = fingerprint.classes[thinnest].thickness
    middle = thickness[1] if thickness is not None else 0
    voxels = _THIN if is_membrane(thinnest) else _THICK
    kind = "thinnest membrane" if is_membrane(thinnest) else "thinnest class"
    differ = len({one.voxel_sizes for one in fingerprint.sources}) > 1
    apart = "; sources whose voxels differ are averaged or resampled to it" if differ else ""
    told = f"the {kind}, {thinnest}, is {middle:.3g} nm thick (median)"
    if not fitting:
        return Scale(chosen, f"the finest that all sources have; {told}, fewer than {voxels} voxels{apart}")
    return Scale(chosen, f"the coarsest at which {told}, still {voxels} voxels or more{apart}")


def _common_sizes(fingerprint: Fingerprint, data: DataConfig, folder: StrPath) -> list[Size]:
    """Return the voxel sizes that all sources have, from fine to coarse.

    They are those of the levels, and the finest doubled. Sources that differ and are resampled have powers of two nm,
    as no voxel size of one of them suits the others.
    """
    asked = _asked(data, folder)
    finest = {max(one.voxel_sizes[0], one.label_sizes[0], key=math.prod) for one in fingerprint.sources}
    if len(finest) > 1 and _isotropic(finest) and all(source.config.alignment == "resample" for source in asked):
        found = {(Fraction(2**power),) * len(size) for size in finest for power in range(_POWERS)}
    else:
        found = {size for one in fingerprint.sources for size in (*one.voxel_sizes, *one.label_sizes)}
        for size in finest:
            for _ in range(4):
                found.add(size := doubled(size))
    # labels that are resampled have any voxel size, but show nothing that is smaller than their own voxels
    least = min(math.prod(one.label_sizes[0]) for one in fingerprint.sources)
    faults: list[str] = []
    common = []
    for size in sorted((s for s in found if math.prod(s) >= least), key=lambda size: (math.prod(size), size)):
        fault = next(filter(None, (serves(source, data, folder, size) for source in asked)), None)
        if fault is None:
            common.append(size)
        else:
            faults.append(fault)
    if not common:
        raise ConfigError(
            f"data.sources have no voxel size in common: {'; '.join(faults[:3])}. `alignment: resample` of a source "
            "reads raw data and labels at other voxels, of which raw data need a level that is as fine"
        )
    return common


def _isotropic(sizes: Iterable[Size]) -> bool:
    """Return whether no axis is more than twice as coarse as another one."""
    return all(1 not in growth(size) for size in sizes)


def _asked(data: DataConfig, folder: StrPath) -> Sequence[Source]:
    sources = [source for source in resolve_sources(data, folder) if source.config.weight]
    step = max(1, -(-len(sources) // _ASKED))
    return sources[::step]


def choose_scales(
    finest: Scale, fingerprint: Fingerprint, data: DataConfig, folder: StrPath, context: Fraction | None
) -> tuple[list[Scale], str, float]:
    """Return the scales from coarse to fine, why there are no more, and the share of the raw data that exists.

    Args:
        finest: the finest scale.
        fingerprint: the data.
        data: the part ``data``.
        folder: folder that relative paths start at.
        context: nm that the network is to see; the extent of the largest class unless given.
    """
    wanted, why = _wanted_context(fingerprint, context)
    scales, share = [finest], _share([finest.voxel_size], data, folder)[0]
    while (seen := field_of_view([scale.voxel_size for scale in scales])) < wanted:
        if len(scales) == _SCALES:
            return scales[::-1], f"{_SCALES} scales are enough to write by machine; they see {_um(seen)}", share
        before = scales[-1].voxel_size
        by_two = doubled(before)
        by_four = doubled(by_two)
        tries = [(by_four, 4), (by_two, 2)]
        if field_of_view([*(scale.voxel_size for scale in scales), by_two]) >= wanted:
            tries = [(by_two, 2)]
        fault = ""
        for size, factor in tries:
            found, fault = _share([*(scale.voxel_size for scale in scales), size], data, folder)
            if not fault and found < 1 / 2:
                fault = f"only {found:.0%} of the middle of what it would see lies within the raw data, less than half"
            if not fault:
                total = field_of_view([*(scale.voxel_size for scale in scales), size])
                scales.append(
                    Scale(size, f"{factor} times as coarse, to see {_um(wanted)}, {why}: the network sees {_um(total)}")
                )
                share = found
                break
        else:
            return (
                scales[::-1],
                f"{why} asks for {_um(wanted)} and the network sees {_um(seen)}: at {format_size(by_two)} nm, {fault}",
                share,
            )
    return scales[::-1], f"the network sees {_um(seen)}, and {why} is {_um(wanted)}", share


def _wanted_context(fingerprint: Fingerprint, context: Fraction | None) -> tuple[Fraction, str]:
    if context is not None:
        return context, "the context that was asked for"
    extents = {name: one.extent[1] for name, one in fingerprint.classes.items() if one.extent is not None}
    extents = {name: extent for name, extent in extents.items() if not is_membrane(name)} or extents
    name = max(extents, key=lambda name: (extents[name], name))
    return Fraction(round(extents[name])), f"95 % of the extents of {name}"


def _subnets(sizes: Sequence[Size], width: int = _DEFAULT[0]) -> list[dict[str, Any]]:
    """Return the options of scales, given from fine to coarse; those that equal a default are left out."""
    subnets = []
    for size in reversed(sizes):
        subnet: dict[str, Any] = {"top_resolution": size}
        if width != _DEFAULT[0]:
            subnet["base_nc"] = width
        if 1 in growth(size):
            levels = [size]
            while len(levels) <= _FLAT_LEVELS and 1 in growth(levels[-1]):
                levels.append(doubled(levels[-1]))
            subnet["downsample_factors"] = [growth(level) for level in levels[:-1]]
            kernels = [[tuple(1 if factor == 1 else 3 for factor in growth(level))] * 2 for level in levels]
            same = kernels.count(kernels[0]) == len(kernels)
            subnet["kernel_sizes"] = kernels[0] if same else kernels
        elif len(size) > 2:
            # context comes from the coarser scales; with two, a sample takes about eight times the work
            subnet["downsample_factors"] = [growth(size)]
        subnets.append(subnet)
    return subnets


def _network(sizes: Sequence[Size], width: int = _DEFAULT[0]) -> dict[str, Any]:
    return {"kind": "scalenet", "subnets": _subnets(sizes, width)}


def field_of_view(sizes: Sequence[Size]) -> Fraction:
    """Return the longest edge, nm, of the part of the input that a voxel of the finest output depends on.

    Args:
        sizes: voxel sizes of the scales, from fine to coarse.
    """
    net = build_scalenet(_subnets(sizes, 1))
    fields = net.receptive_field(net.output_keys[-1])
    return Fraction(max(max(shape) for shape in fields.values()) * net.unit)


def _share(sizes: Sequence[Size], data: DataConfig, folder: StrPath) -> tuple[float, str]:
    """Return the mean share of the middle of the field of view that is recorded, over annotated places; or a fault."""
    config = provisional_config(data, _network(sizes, 1), sizes[-1])
    net = config.build_network()
    shares = []
    for source in _asked(data, folder):
        try:
            dataset = Dataset.open(folder, config, net, source)
            labelled = dataset.labelled()
            dataset.target_sources()
        except (ScaleNetError, OSError) as error:
            return 0.0, f"{source.name}: {error}"
        coarsest = Coordinate(net.voxel_size[net.output_keys[0]])
        if any(length < 2 * size for length, size in zip(labelled.shape, coarsest, strict=True)):
            return 0.0, f"{source.name} has fewer than two annotated voxels along an axis"
        finest = dataset.finest
        plan = net.plan({finest: Roi((0,) * net.dims, net.voxel_size[finest])})
        shares.append(min(context_shares(dataset, plan, labelled, MIDDLE).values()))
    return math.fsum(shares) / len(shares), ""


def training_memory(net: LeibNet, plan: Plan, batch: int) -> int:
    """Return the predicted peak memory of a training step with AdamW's two averages of each weight, bytes."""
    states = 2 * sum(weight.numel() * weight.element_size() for weight in net.parameters())
    return predict_cost(net.graph, plan, batch=batch, training=True).peak + states


def choose_network(
    scales: Sequence[Scale], end: str, share: float, data: DataConfig, folder: StrPath, memory: int | None
) -> NetworkChoice:
    """Return the network, the batch and the crop that fit into memory: the defaults if nobody has named it.

    In memory that a user has named, there are up to twice as many channels and samples. Where the defaults do not fit,
    the batch is smaller, then the crop, then the number of channels.

    Args:
        scales: from coarse to fine.
        end: why there is no coarser scale.
        share: mean share of the middle of the field of view that is recorded.
        data: the part ``data``.
        folder: folder that relative paths start at.
        memory: bytes that a user has named; None for :data:`DEFAULT_MEMORY`.

    Raises:
        ConfigError: nothing fits.
    """
    limit = DEFAULT_MEMORY if memory is None else memory
    sizes = [scale.voxel_size for scale in reversed(scales)]
    fault = ""
    for width, batches in _FEWER if memory is None else (*_MORE, *_FEWER):
        network = _network(sizes, width)
        config = provisional_config(data, network, sizes[-1])
        net = config.build_network()
        datasets = Datasets.find(folder, config, net)
        boxes = datasets.boxes(None)
        plan, crop = net.plan(boxes), None
        for batch in batches:
            need = training_memory(net, plan, batch)
            if need <= limit:
                break
        else:
            if 1 not in batches:  # rather the default with all of its crop
                continue
            try:
                states = need - predict_cost(net.graph, plan, training=True).peak
                plan = net.largest_plan(limit - states, training=True)
            except GraphError as error:
                fault = str(error)
                continue
            need = training_memory(net, plan, 1)
            box = next(iter(plan.outputs.values()))
            crop = tuple(length * net.unit for length in box.shape)
        finest = plan.outputs[datasets.first.finest]
        voxels = math.prod(int(n) for n in finest.shape / Coordinate(net.voxel_size[datasets.first.finest]))
        block = _block(net, datasets.first, limit)
        return NetworkChoice(scales, network, end, width, batch, crop, voxels, need, block, share)
    raise ConfigError(
        f"--memory of {limit / 2**20:,.0f} MiB is too little, even for {_FEWER[-1][0]} channels at "
        f"{', '.join(format_size(size) for size in sizes)} nm: {fault}"
    )


def _block(net: LeibNet, dataset: Dataset, memory: int) -> Size:
    """Return a block of prediction (nm): about 128³ voxels, whole voxels of every output, less if memory is short."""
    lattice = dataset.lattice()
    finest = net.voxel_size[dataset.finest]
    voxels = 128**3 if net.dims == 3 else 1024**2
    while True:
        edge = (voxels * math.prod(finest)) ** (1 / net.dims)
        shape = Coordinate(max(1, round(edge / step)) * step for step in lattice)
        plan = net.plan({name: Roi((0,) * net.dims, shape) for name in net.output_keys})
        with torch.no_grad():
            need = predict_cost(net.graph, plan).peak
        if need <= memory or shape == lattice:
            return tuple(length * net.unit for length in shape)
        voxels //= 8


def _um(length: Fraction | float) -> str:
    return f"{float(length) / 1000:.3g} µm"
