"""Sizes of the objects of a class in a box of voxels: thickness, extent and gaps, in nm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Objects", "measure_objects", "measure_thickness"]

Mask = NDArray[np.bool_]
Lengths = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Objects:
    """The connected components of a class.

    Attributes:
        extents: the longest edge of the bounding box of each, nm.
        gaps: the distance from the surface of each to that of the next one, nm; those without a neighbour are left out.
    """

    extents: Lengths
    gaps: Lengths


def measure_thickness(present: Mask, absent: Mask, voxel_size: Sequence[float]) -> Lengths:
    """Return the thickness (nm) of the objects of a class at each of their voxels.

    It is the diameter of the largest ball that holds the voxel and lies in the object. The centres of balls are the
    voxels whose distance to the nearest voxel without the class is not smaller than that of any neighbour. Voxels that
    are not annotated, and those beyond the box, bound nothing. Sections of serial sectioning, more than twice as thick
    as their pixels, are measured one by one: an object in one of them need not lie in the next. A plate is measured
    exactly, a round object up to three voxels too thin. Voxels that no ball holds, at edges, are left out.

    Source: Hildebrand and Rüegsegger, "A new method for the model-independent assessment of thickness in
    three-dimensional images", Journal of Microscopy 185 (1997).

    Args:
        present: the voxels of the class.
        absent: the voxels without it; the others are not annotated.
        voxel_size: nm.

    Example:
        >>> plate = np.zeros((9, 9), dtype=bool)
        >>> plate[3:7] = True
        >>> np.unique(measure_thickness(plate, ~plate, (8, 8)))
        array([32.])
    """
    coarse = next((axis for axis, s in enumerate(voxel_size) if s > 2 * min(voxel_size)), None)
    if coarse is not None:
        sections = zip(np.moveaxis(present, coarse, 0), np.moveaxis(absent, coarse, 0), strict=True)
        pixel = [s for axis, s in enumerate(voxel_size) if axis != coarse]
        return np.concatenate([measure_thickness(inside, outside, pixel) for inside, outside in sections])
    if not present.any() or not absent.any():
        return np.zeros(0)
    size = np.asarray(voxel_size, dtype=np.float64)
    distance, nearest = ndimage.distance_transform_edt(~absent, sampling=size, return_indices=True)
    middle = np.nonzero(present & (distance >= ndimage.maximum_filter(distance, size=3) * (1 - 1e-9)))
    places = np.stack(middle, axis=-1)
    steps = np.stack([axis[middle] for axis in nearest], axis=-1) - places
    depths = np.sqrt((np.clip(np.abs(steps) - 0.5, 0, None) ** 2 * size**2).sum(axis=-1))
    # the middle of an even number of voxels lies between two of them: the other one is as far from its own side
    along = np.abs(steps * size).argmax(axis=-1)
    rows = np.arange(len(places))
    beside = places.copy()
    beside[rows, along] -= np.sign(steps[rows, along])
    beside = np.clip(beside, 0, np.array(present.shape) - 1)
    even = np.isclose(distance[tuple(beside.T)], distance[middle]) & (beside != places).any(axis=-1)
    return _paint_balls(present, places, 2 * depths + np.where(even, size[along], 0), size)


def _paint_balls(present: Mask, places: NDArray[np.intp], diameters: Lengths, size: Lengths) -> Lengths:
    """Return, for each voxel of the class that lies in a ball, the diameter of the largest one."""
    largest = np.zeros(present.shape)
    for index in np.argsort(diameters, kind="stable"):
        radius = diameters[index] / 2
        reach = (radius / size).astype(int)
        begin = np.maximum(places[index] - reach, 0)
        box = tuple(slice(b, e) for b, e in zip(begin, places[index] + reach + 1, strict=True))
        part = largest[box]
        axes = np.ogrid[tuple(slice(0, n) for n in part.shape)]
        steps = (
            ((axis + first - place) * s) ** 2
            for axis, first, place, s in zip(axes, begin, places[index], size, strict=True)
        )
        part[sum(steps) < radius**2] = diameters[index]
    return largest[present & (largest > 0)]


def measure_objects(present: Mask, voxel_size: Sequence[float]) -> Objects:
    """Return the extents of the connected components of a mask, and the gaps between them.

    Voxels that share a corner are connected.

    Example:
        >>> bars = np.zeros((4, 20), dtype=bool)
        >>> bars[1:3, 2:5] = bars[1:3, 10:16] = True
        >>> found = measure_objects(bars, (8, 8))
        >>> found.extents, found.gaps
        (array([24., 48.]), array([40., 40.]))
    """
    size = np.asarray(voxel_size, dtype=np.float64)
    labels, count = cc3d.connected_components(present, connectivity=3**present.ndim - 1, return_N=True)
    if not count:
        return Objects(np.zeros(0), np.zeros(0))
    edges = [[axis.stop - axis.start for axis in box] for box in ndimage.find_objects(labels)]
    extents = (np.array(edges) * size).max(axis=-1)
    if count == 1:
        return Objects(extents, np.zeros(0))
    nearest = ndimage.distance_transform_edt(~present, sampling=size, return_distances=False, return_indices=True)
    gaps = np.full(count + 1, np.inf)
    # two objects are nearest to one another where voxels that are nearest to the one touch those of the other
    for axis in range(present.ndim):
        low, high = (
            tuple(part if a == axis else slice(None) for a in range(present.ndim))
            for part in (slice(None, -1), slice(1, None))
        )
        ends = [[along[side] for along in nearest] for side in (low, high)]
        of = [labels[tuple(end)] for end in ends]
        meeting = np.nonzero(of[0] != of[1])
        steps = [np.abs(a[meeting] - b[meeting]) - 1 for a, b in zip(*ends, strict=True)]
        apart = np.sqrt(sum((np.clip(step, 0, None) * s) ** 2 for step, s in zip(steps, size, strict=True)))
        for numbers in of:
            np.minimum.at(gaps, numbers[meeting], apart)
    return Objects(extents, gaps[1:][np.isfinite(gaps[1:])])
