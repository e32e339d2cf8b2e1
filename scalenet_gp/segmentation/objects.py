"""The objects of a mask, or of affinities, in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from scalenet_gp.segmentation.affinities import (
    adjacent_offsets,
    attached_faces,
    forward_affinities,
    mean_affinities,
    sum_edges,
)
from scalenet_gp.segmentation.components import fill_holes, label_components
from scalenet_gp.segmentation.fragments import look_up, measure_fragments, number_objects
from scalenet_gp.segmentation.joining import join_by_affinities
from scalenet_gp.segmentation.mutex import mutex_fragments, mutex_levels
from scalenet_gp.segmentation.opening import BallClosing, BallOpening
from scalenet_gp.segmentation.options import AffinityMethod, SegmentationMethod
from scalenet_gp.segmentation.watershed import PASS_TYPE, Heights, find_basins, find_passes, join_basins

__all__ = ["find_affinity_objects", "find_objects"]


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


def find_affinity_objects(
    affinities: np.ndarray,
    offsets: Sequence[Sequence[int]],
    voxel_size: Sequence[Fraction],
    options: AffinityMethod,
) -> list[np.ndarray]:
    """Return the objects of affinities in one piece, for each of ``options.swept``.

    Args:
        affinities: (offset, z, y, x) or (offset, y, x), from 0 to 1: of each voxel to that at the offset.
        offsets: in voxels.
        voxel_size: nm, per axis.
        options: the method.

    Returns:
        Ids from 1 on, in the order of the objects' first voxels.

    Raises:
        ArgumentError: the offsets have none to a neighbour along an axis.
        ConfigError: options for another number of offsets.

    Example:
        >>> from scalenet_gp.segmentation import AgglomerateOptions
        >>> along_y, along_x = np.ones((2, 2, 4), np.float32)
        >>> along_x[:, 1] = 0.1  # the affinities of column 1 to column 2
        >>> found = find_affinity_objects(
        ...     np.stack([along_y, along_x]), [(1, 0), (0, 1)], (Fraction(8),) * 2, AgglomerateOptions()
        ... )
        >>> found[0].tolist()
        [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    size, dims = tuple(voxel_size), len(offsets[0])
    forward, start = forward_affinities(affinities, offsets), (0,) * dims
    values = mean_affinities(forward)
    links, passes = np.empty((0, 2), np.uint64), np.empty(0, PASS_TYPE)
    if options.kind == "agglomerate":
        heights = Heights(options.reach_in(size), size)
        high = np.pad(heights.grown(values >= options.threshold, values >= options.background), 1)
        attached = np.pad(attached_faces(forward, options.threshold), 1)
        labels, count = find_basins(high, 6, attached)
        links, passes = find_passes(np.pad(labels, 1).astype(np.uint64), high, 6, attached)
        used = adjacent_offsets(offsets)
        levels = None if options.quantile is not None else [0] * dims
        edges = sum_edges(labels, affinities[used], [offsets[index] for index in used], start, levels)
    else:
        labels, count = mutex_fragments(affinities, forward, offsets, options, (slice(None),) * dims)
        edges = sum_edges(labels, affinities, offsets, start, *mutex_levels(offsets, options))
    rows = measure_fragments(labels, count, values, start, labels.shape, 0)
    smallest = options.smallest_voxels(size)
    found = []
    for objects, number in join_by_affinities(rows, edges, options, size, links, passes):
        numbers, _ = number_objects(rows, objects, number, lambda measures: measures["voxels"] >= smallest)
        found.append(look_up(labels, rows["id"], numbers))
    return found
