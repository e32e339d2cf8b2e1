"""Boxes of outputs in a sample: given, or so that every scale has about as many voxels."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from fractions import Fraction
from math import inf, lcm, prod

from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError, LatticeError
from scalenet_gp.geometry import World, exact_size, format_size
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.options import Size, suggest

__all__ = ["common_lattice", "finest_output", "sample_boxes", "say_if_small", "whole_voxels"]

_logger = logging.getLogger(__name__)

_VOXELS = {2: 64**2, 3: 16**3}
"""Voxels of a box, about, by the number of axes: several small boxes in a batch teach more than one large one."""


def finest_output(net: LeibNet, among: Collection[str] | None = None) -> str:
    """Return the name of the output with the smallest voxels, of all or of those named."""
    return min(
        (name for name in net.output_keys if among is None or name in among),
        key=lambda name: prod(net.voxel_size[name]),
    )


def common_lattice(net: LeibNet, outputs: Collection[str] | None = None) -> Coordinate:
    """Return the smallest box (world units) that is whole voxels of every output, or of those named."""
    sizes = (net.voxel_size[name] for name in outputs or net.output_keys)
    return Coordinate(lcm(*lengths) for lengths in zip(*sizes, strict=True))


def whole_voxels(net: LeibNet, size: Size, what: str, outputs: Collection[str] | None = None) -> Coordinate:
    """Return a size (nm) in world units, as a whole number of voxels of every output, or of those named.

    Raises:
        ConfigError: it is not a whole number of voxels. ``what`` names it.
        LatticeError: it is not a whole number of world units.
    """
    world = World(net.unit)
    lattice = common_lattice(net, outputs)
    try:
        shape = world.size(size, what)
    except LatticeError as error:
        raise LatticeError(f"{error}{_other_unit(net, size, lattice)}") from error
    fits = len(shape) == net.dims and min(shape) > 0
    if not fits or any(s % step for s, step in zip(shape, lattice, strict=True)):
        raise ConfigError(
            f"{what} {format_size(size)} nm has to be a positive multiple of {format_size(world.size_in_nm(lattice))} "
            f"nm, so that it is whole voxels of every output{_other_unit(net, size, lattice)}"
        )
    return shape


def _other_unit(net: LeibNet, size: Size, lattice: Coordinate) -> str:
    """Return a hint if a size would fit in voxels or in micrometres."""
    size = exact_size(size)
    if len(size) != net.dims or min(size) <= 0:
        return ""
    finest = finest_output(net)
    micrometre = (Fraction(1000),) * net.dims
    units = {f"voxels of {finest!r}": net.specs[finest].voxel_size, "µm": micrometre}
    for name, lengths in units.items():
        meant = [length * unit for length, unit in zip(size, lengths, strict=True)]
        inside = name == "µm" or all(length.denominator == 1 for length in size)
        if inside and all(not (length / net.unit) % step for length, step in zip(meant, lattice, strict=True)):
            return f"; {format_size(size)} {name} are {format_size(meant)} nm"
    return ""


def sample_boxes(
    net: LeibNet, shape: Size | Mapping[str, Size] | None, what: str, largest: Coordinate | None = None
) -> dict[str, Roi]:
    """Return the ROI of every output in a sample; that of the finest begins at 0.

    The ROIs have a common centre, to half a voxel of each.

    Args:
        net: the network.
        shape: nm that all outputs cover; or a mapping of names of outputs to what each covers. By default, a box has
            about 16³ voxels, or 64² in two dimensions, and edges of about the same length. An output that is coarser
            than the one before, as deep supervision makes it, covers the same box as that then.
        what: the name of ``shape`` in messages.
        largest: the largest shape of the finest output by default, world units.

    Raises:
        ConfigError: a shape is not a whole number of voxels, or an output is unknown or missing.
    """
    names = net.output_keys
    if shape is None:
        shapes = _balanced_shapes(net, largest)
    elif isinstance(shape, Mapping):
        if unknown := [name for name in shape if name not in names]:
            raise ConfigError(f"{what} has {unknown[0]!r}; {suggest(unknown[0], names, 'the outputs')}")
        if missing := [name for name in names if name not in shape]:
            raise ConfigError(f"{what} has no entry for the output {missing[0]!r}")
        shapes = {name: whole_voxels(net, shape[name], f"{what}.{name}", [name]) for name in names}
    else:
        shapes = dict.fromkeys(names, whole_voxels(net, shape, what))
    finest = shapes[finest_output(net)]
    boxes = {}
    for name in names:
        size, around = net.voxel_size[name], shapes[name] - finest
        # rounded to the nearest voxel; an odd one more lies below
        begin = Coordinate(-((a + 2 * s - 1) // (2 * s)) * s for a, s in zip(around, size, strict=True))
        boxes[name] = Roi(begin, shapes[name])
    return boxes


def _balanced_shapes(net: LeibNet, largest: Coordinate | None) -> dict[str, Coordinate]:
    """Return the shape of every output (world units) in samples in which all scales have about as many voxels."""
    finest = prod(net.voxel_size[finest_output(net)])
    shapes: dict[str, Coordinate] = {}
    own, before = Coordinate((0,) * net.dims), inf
    for name in net.output_keys:
        size = net.voxel_size[name]
        if prod(size) < before:
            before = prod(size)
            edge = (_VOXELS[net.dims] * prod(size)) ** (1 / net.dims)
            counts = Coordinate(max(1, round(edge / s)) for s in size)
            own = counts * size
            if before == finest and largest is not None:
                own = Coordinate(min(o, most // s * s) for o, most, s in zip(own, largest, size, strict=True))
        # whole voxels of an output that is coarser than its subnet
        shapes[name] = Coordinate(-(-o // s) * s for o, s in zip(own, size, strict=True))
    return shapes


def say_if_small(net: LeibNet, roi: Roi, sample: Coordinate, what: str) -> None:
    """Log a warning if a region is smaller than one sample, as regions are that were meant in voxels.

    Args:
        net: the network.
        roi: the region, world units.
        sample: shape of a sample of the finest output, world units.
        what: the name of the region.
    """
    if not any(have < want for have, want in zip(roi.shape, sample, strict=True)):
        return
    world, size = World(net.unit), Coordinate(net.voxel_size[finest_output(net)])
    have, want = (
        f"{format_size(world.size_in_nm(shape))} nm ({' × '.join(str(n) for n in shape // size)} voxels)"
        for shape in (roi.shape, sample)
    )
    _logger.warning("%s is %s, less than one sample of %s; regions and sizes are in nm, not voxels", what, have, want)
