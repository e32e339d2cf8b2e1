"""Boxes of outputs in a sample, by default."""

from __future__ import annotations

from math import inf, prod

from funlib.geometry import Coordinate

from scalenet_gp.leibnet import LeibNet

__all__ = ["balanced_shapes"]

_VOXELS = {2: 128**2, 3: 32**3}
"""Voxels of a box, about, by the number of axes."""


def balanced_shapes(net: LeibNet, largest: Coordinate) -> dict[str, Coordinate]:
    """Return the shape of every output (world units) in samples in which all scales have about as many voxels.

    A box has about 32³ voxels, or 128² in two dimensions, and edges of about the same length in nm. Outputs go from
    coarse to fine. One that is coarser than the one before, as deep supervision makes it, covers the same box.

    Args:
        net: the network.
        largest: the largest shape of the finest outputs.
    """
    finest = min(prod(net.voxel_size[name]) for name in net.output_keys)
    shapes: dict[str, Coordinate] = {}
    own, before = Coordinate((0,) * net.dims), inf
    for name in net.output_keys:
        size = net.voxel_size[name]
        if prod(size) < before:
            before = prod(size)
            edge = (_VOXELS[net.dims] * prod(size)) ** (1 / net.dims)
            counts = Coordinate(max(1, round(edge / s)) for s in size)
            own = counts * size
            if before == finest:
                own = Coordinate(min(o, most // s * s) for o, most, s in zip(own, largest, size, strict=True))
        # whole voxels of an output that is coarser than its subnet
        shapes[name] = Coordinate(-(-o // s) * s for o, s in zip(own, size, strict=True))
    return shapes
