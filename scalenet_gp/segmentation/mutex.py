"""The mutex watershed, by the package mwatershed: of the voxels of a block, and of fragments.

Steffen Wolf et al., *The mutex watershed: efficient, parameter-free image partitioning*, ECCV 2018. Pairs of voxels are
taken in the order of the size of their biased affinities: one above 0 joins two regions, unless an earlier one below 0
parts them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scalenet_gp.segmentation.affinities import STEPS, is_adjacent, mean_affinities
from scalenet_gp.segmentation.options import MutexOptions

__all__ = ["LONG", "SHORT", "join_mutex", "mutex_fragments", "mutex_levels", "mutex_weights"]

SHORT, LONG = 0, 1
"""Levels of edges: of pairs of voxels that share a face, with their affinities; and of others, with biased ones."""


def mutex_levels(offsets: Sequence[Sequence[int]], options: MutexOptions) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the level of each offset in edges, and the bias with which its affinities are summed.

    Example:
        >>> mutex_levels([(1, 0, 0), (0, 0, 10)], MutexOptions())
        ((0, 1), (0.0, -0.8))
    """
    levels = tuple(SHORT if is_adjacent(offset) else LONG for offset in offsets)
    biases = options.biases(offsets)
    return levels, tuple(0.0 if level == SHORT else bias for level, bias in zip(levels, biases, strict=True))


def mutex_fragments(
    affinities: np.ndarray,
    forward: np.ndarray,
    offsets: Sequence[Sequence[int]],
    options: MutexOptions,
    inside: tuple[slice, ...],
) -> tuple[np.ndarray, int]:
    """Return the fragments of a block, uint32 from 1 on, and their number; 0 where nothing is.

    Args:
        affinities: (offset, z, y, x) or (offset, y, x), of the block with its context. Strides count from its first
            voxel.
        forward: of the same voxels: see :func:`.forward_affinities`.
        offsets: in voxels.
        options: biases, strides and the affinity of fragments that are kept.
        inside: the block within its context.
    """
    from cc3d import connected_components  # slow to import
    from mwatershed import agglom

    # mwatershed ends the process for an offset that leads beyond the array from everywhere
    used = [
        index
        for index, offset in enumerate(offsets)
        if all(abs(step) < length for step, length in zip(offset, affinities.shape[1:], strict=True))
    ]
    if len(used) < len(offsets):
        affinities = affinities[used]
    biased = affinities.astype(np.float64)
    biased += np.array(options.biases(offsets))[used].reshape(-1, *[1] * (affinities.ndim - 1))
    strides = None if options.strides is None else [list(options.strides[index]) for index in used]
    regions = agglom(biased, [list(offsets[index]) for index in used], strides=strides)
    del biased
    part = np.unique(regions[inside], return_inverse=True)[1].reshape(regions[inside].shape)
    # a region may go round a corner through the context
    solid = np.ascontiguousarray(part.reshape((1,) * (3 - part.ndim) + part.shape), np.uint32) + 1
    labels, count = connected_components(solid, connectivity=6, return_N=True, out_dtype=np.uint32)
    labels = labels.reshape(part.shape)
    means = np.bincount(labels.ravel(), mean_affinities(forward)[inside].ravel(), minlength=count + 1)
    kept = means >= options.fragment_affinity * np.maximum(np.bincount(labels.ravel(), minlength=count + 1), 1)
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.uint32)
    return numbers[labels], int(kept.sum())


def mutex_weights(edges: np.ndarray, threshold: float) -> np.ndarray:
    """Return how much each edge joins, above 0, or parts, below 0: see :func:`join_mutex`."""
    means = edges["total"] / edges["count"] / STEPS
    weights: np.ndarray = np.where(edges["level"] == SHORT, means - (1 - threshold), means)
    return weights


def join_mutex(count: int, edges: np.ndarray, thresholds: Sequence[float]) -> list[np.ndarray]:
    """Return the region of each fragment for each threshold, as the index of the region's first fragment.

    An edge of pairs that share a face joins by as much as its mean affinity is above 1 - the threshold, and parts by as
    much as it is below. Another one joins or parts by its mean biased affinity. The mutex watershed takes the edges by
    their size, equal ones in the order of ``edges``.

    Args:
        count: number of fragments.
        edges: rows of :data:`.EDGE_TYPE` with indices as ids, summed, with the levels of :func:`mutex_levels`.
        thresholds: from 0 to 1.

    Example:
        >>> from scalenet_gp.segmentation import EDGE_TYPE
        >>> rows = [(0, 1, SHORT, 1, int(0.9 * STEPS)), (1, 2, SHORT, 1, int(0.6 * STEPS)), (0, 2, LONG, 1, -STEPS)]
        >>> join_mutex(3, np.array(rows, EDGE_TYPE), [0.5])[0].tolist()
        [0, 0, 2]
    """
    from mwatershed import cluster

    found = []
    for threshold in thresholds:
        weights = mutex_weights(edges, threshold)
        order = np.argsort(-np.abs(weights), kind="stable")
        order = order[weights[order] != 0]
        ends = edges[order]
        regions = np.arange(count)
        if len(order):
            rows = zip((weights[order] > 0).tolist(), ends["one"].tolist(), ends["other"].tolist(), strict=True)
            joined = np.array(cluster(list(rows)), np.int64)
            first = np.full(int(joined[:, 1].max()) + 1, count)
            np.minimum.at(first, joined[:, 1], joined[:, 0])
            regions[joined[:, 0]] = first[joined[:, 1]]
        found.append(regions)
    return found
