"""The objects of a mask in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from scalenet_gp.segmentation.components import fill_holes, label_components
from scalenet_gp.segmentation.fragments import look_up, measure_fragments, number_objects
from scalenet_gp.segmentation.opening import BallClosing, BallOpening
from scalenet_gp.segmentation.options import SegmentationMethod
from scalenet_gp.segmentation.watershed import Heights, find_basins, find_passes, join_basins

__all__ = ["find_objects"]


def find_objects(mask: np.ndarray, voxel_size: Sequence[Fraction], options: SegmentationMethod) -> np.ndarray:
    """Return the objects of a mask in one piece: ids from 1 on, in the order of their first voxels.

    Args:
        mask: boolean, (z, y, x) or (y, x): the voxels of the class.
        voxel_size: nm, per axis.
        options: the method, whose steps after the threshold are done.

    Example:
        >>> from scalenet_gp.segmentation import ComponentsOptions
        >>> mask = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]], bool)
        >>> size = (Fraction(8), Fraction(8))
        >>> find_objects(mask, size, ComponentsOptions(smallest=2 * 8 * 8)).tolist()
        [[1, 1, 0, 0], [0, 0, 0, 0], [2, 2, 2, 0]]
    """
    size, connectivity = tuple(voxel_size), options.connectivity
    mask = BallClosing(options.closing, size)(mask)
    if largest := options.hole_voxels(size):
        mask = fill_holes(mask, connectivity, largest)
    mask = BallOpening(options.opening, size)(mask)
    if options.kind == "components":
        labels, count = label_components(mask, connectivity)
    else:
        heights = Heights(options.reach_in(size), size)
        high = np.pad(heights(mask), 1)
        labels, count = find_basins(high, connectivity)
    rows = measure_fragments(labels, count, mask, (0,) * mask.ndim, mask.shape, 0)
    objects = np.arange(count)
    if options.kind == "watershed":
        found = find_passes(np.pad(labels, 1).astype(np.uint64), high, connectivity)
        objects, count = join_basins(rows, *found, heights.length(options.depth))
    smallest = options.smallest_voxels(size)
    numbers, _ = number_objects(rows, objects, count, lambda measures: measures["voxels"] >= smallest)
    return look_up(labels, rows["id"], numbers)
