"""Signed distances to the boundary of binary targets, and where they are certain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from gunpowder import ArrayKey, Coordinate

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length, World, exact
from scalenet_gp.nodes.targets.derived_array import DerivedArray

__all__ = ["BoundaryDistance", "boundary_distance"]


@final
class BoundaryDistance(DerivedArray):
    """Provide the distance of every voxel of a binary target to the boundary: positive inside, negative outside.

    The distances are float32 in the shape of the target, (channel, z, y, x), every channel by itself;
    :func:`boundary_distance` defines them. They are clipped at ``maximum``, and the node asks for the target that much
    further on every side: the distances are exact up to there, and tiles agree with the whole. A distance is uncertain
    if voxels that are not annotated are so near that they could change it: distance and mask are 0.

    The node goes downstream of the nodes that deform the target.

    Args:
        target: above 0 inside, 0 outside.
        distance: the array to provide.
        maximum: nm; a larger distance counts as this one.
        world: the world that the pipeline counts in.
        mask: 1 where the target is known, in its shape or with one channel for all. None: it is known everywhere.
        distance_mask: the key of the mask of certain distances, uint8 in the target's shape.
        unit: nm that count as a distance of 1. With ``maximum``, distances lie in [-1, 1].

    Raises:
        ArgumentError: ``maximum`` or ``unit`` are not positive.
        PipelineError: as :class:`DerivedArray`.

    Example:
        >>> import gunpowder as gp
        >>> from scalenet_gp.geometry import World
        >>> target, distance = gp.ArrayKey("TARGET"), gp.ArrayKey("DISTANCE")
        >>> BoundaryDistance(target, distance, maximum=50, world=World(), unit=50).maximum
        Fraction(50, 1)
    """

    def __init__(
        self,
        target: ArrayKey,
        distance: ArrayKey,
        maximum: Length,
        *,
        world: World,
        mask: ArrayKey | None = None,
        distance_mask: ArrayKey | None = None,
        unit: Length = 1,
    ) -> None:
        super().__init__(target, mask, (distance, np.float32), (distance_mask, np.uint8))
        for name, length in (("maximum", maximum), ("unit", unit)):
            if exact(length) <= 0:
                raise ArgumentError(f"{name}={length} nm has to be positive")
        self.distance, self.distance_mask = distance, distance_mask
        self.maximum, self.unit = exact(maximum) / world.unit, exact(unit) / world.unit

    def margin(self, voxel_size: Coordinate) -> tuple[Coordinate, Coordinate]:
        """Return how many voxels have their near face within the maximum."""
        reach = Coordinate(math.floor(self.maximum / size + exact("1/2")) for size in voxel_size)
        return reach, reach

    def derive(
        self, values: np.ndarray, known: np.ndarray, begin: Coordinate, voxel_size: Coordinate
    ) -> Mapping[ArrayKey | None, np.ndarray]:
        """Return distances and mask of every channel."""
        reach, _ = self.margin(voxel_size)
        inner = tuple(slice(n, length - n) for n, length in zip(reach, values.shape[1:], strict=True))
        known = np.broadcast_to(known, values.shape)
        distances = np.empty((len(values), *(values[0][inner].shape)), dtype=np.float32)
        certain = np.empty(distances.shape, dtype=np.uint8)
        for channel in range(len(values)):
            distance, sure = boundary_distance(values[channel] > 0, known[channel], voxel_size, float(self.maximum))
            distances[channel], certain[channel] = distance[inner], sure[inner]
        distances /= np.float32(self.unit)
        return {self.distance: distances, self.distance_mask: certain}


def boundary_distance(
    inside: np.ndarray, known: np.ndarray, voxel_size: Sequence[int], maximum: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance from every voxel's centre to the nearest voxel of the other side, and where it is certain.

    A voxel is the box that it is, so the boundary consists of the faces between voxels inside and voxels outside: next
    to a plane of faces the distance is half a voxel, of that axis. It is the exact distance to those faces, edges and
    corners, for any voxel size. (Distances between voxel centres, minus half a voxel, are not: of two voxels, the one
    whose centre is nearer may be the one whose box is further, if voxels are anisotropic.) The price is a distance
    transform, by the package edt, of voxel centres and faces: eight times as many points as voxels.

    A distance is certain if no unknown voxel's box is nearer than that: it stays, whatever the unknown voxels are.
    Voxels beyond the arrays are not taken into account.

    Args:
        inside: boolean, (z, y, x) or (y, x).
        known: boolean, of the same shape.
        voxel_size: whole numbers.
        maximum: the largest distance that is told from larger ones.

    Returns:
        Distances in the unit of ``voxel_size``, float32: positive inside, negative outside, in
        [-maximum, maximum], 0 where they are uncertain; and where they are certain, boolean.
    """
    # the lattice of centres and faces is twice as fine, so in whole numbers distances are twice as large; without
    # common factors their squares are as small as they can be: below 2**24, float32 holds them exactly; further away
    # they may be rounded
    common = math.gcd(*voxel_size)
    steps = tuple(size // common for size in voxel_size)
    farthest = 2 * maximum / common
    boundary = _closure(inside & known) & _closure(~inside & known)
    squared = _squared_distance(boundary, steps, farthest)
    certain = known
    if not known.all():
        certain = known & (_squared_distance(_closure(~known), steps, farthest) >= squared)
    distance = np.minimum(np.sqrt(squared) * np.float32(common / 2), np.float32(maximum))
    return np.where(certain, np.where(inside, distance, -distance), np.float32(0)), certain


def _closure(voxels: np.ndarray) -> np.ndarray:
    """Return the points in or on these voxels, of the lattice with voxel centres at odd and faces at even indices."""
    points = voxels
    for axis in range(voxels.ndim):
        along = np.moveaxis(points, axis, 0)
        finer = np.zeros((2 * len(along) + 1, *along.shape[1:]), dtype=bool)
        finer[1::2] = along
        finer[:-1:2] = along
        finer[2::2] |= along
        points = np.moveaxis(finer, 0, axis)
    return points


def _squared_distance(points: np.ndarray, steps: tuple[int, ...], farthest: float) -> np.ndarray:
    """Return the squared distance from every voxel centre to the nearest point, float32, at most ``farthest**2``.

    Args:
        points: boolean, on the lattice of :func:`_closure`.
        steps: of this lattice.
        farthest: in the unit of ``steps``.
    """
    squared = np.full([length // 2 for length in points.shape], farthest**2, dtype=np.float32)
    if not points.any():
        return squared
    near, lattice = [], []
    for axis, (step, length) in enumerate(zip(steps, squared.shape, strict=True)):
        there = np.flatnonzero(points.any(axis=tuple(other for other in range(points.ndim) if other != axis)))
        reach = math.ceil(farthest / step / 2) + 1
        begin, end = max(int(there[0]) // 2 - reach, 0), min(int(there[-1]) // 2 + 1 + reach, length)
        near.append(slice(begin, end))
        lattice.append(slice(2 * begin, 2 * end + 1))
    import edt

    free = np.ascontiguousarray(~points[tuple(lattice)])
    # as integers: what edt does with booleans takes a fifth longer
    found = edt.edtsq(free.view(np.uint8), anisotropy=tuple(map(float, steps)), black_border=False)
    squared[tuple(near)] = np.minimum(found[(slice(1, None, 2),) * points.ndim], np.float32(farthest**2))
    return squared
