"""Objects that fragments make together by the affinities between them, for each of several thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from scalenet_gp.segmentation.affinities import sum_rows
from scalenet_gp.segmentation.agglomeration import agglomerate
from scalenet_gp.segmentation.fragments import order_objects
from scalenet_gp.segmentation.kinds import choose_kinds, part_kinds
from scalenet_gp.segmentation.mutex import join_mutex, mutex_weights
from scalenet_gp.segmentation.options import AffinityMethod
from scalenet_gp.segmentation.watershed import Heights, join_basins

__all__ = ["join_by_affinities"]


def join_by_affinities(
    rows: np.ndarray,
    edges: np.ndarray,
    options: AffinityMethod,
    voxel_size: Sequence[Fraction],
    links: np.ndarray,
    passes: np.ndarray,
    kinds: np.ndarray | None = None,
) -> list[tuple[np.ndarray, int]]:
    """Return for each threshold the object of each fragment, an index, and the number of objects.

    Args:
        rows: measures of all fragments, sorted by id.
        edges: of all blocks, rows of :data:`.EDGE_TYPE`.
        options: the method, with its thresholds: ``options.swept``.
        voxel_size: nm.
        links: for the agglomeration, pairs of fragments of one basin.
        passes: for the agglomeration, rows of :data:`.PASS_TYPE`.
        kinds: with ``options.kinds``, the sums of their probabilities in each fragment: see :func:`.sum_kinds`.
    """
    if options.kind == "agglomerate":
        depth = Heights(options.depth_in(voxel_size), tuple(voxel_size)).length(options.depth_in(voxel_size))
        region, count = join_basins(rows, links, passes, depth)
    else:
        region, count = np.arange(len(rows)), len(rows)
    region = order_objects(rows, region, count)
    between = edges.copy()
    for name in ("one", "other"):
        between[name] = region[np.searchsorted(rows["id"], edges[name])]
    between = sum_rows(between)
    of_region = np.zeros(count, np.int64)
    if options.kinds is not None and kinds is not None:
        sums, voxels = np.zeros((count, kinds.shape[1]), np.int64), np.zeros(count, np.int64)
        np.add.at(sums, region, kinds)
        np.add.at(voxels, region, rows["voxels"])
        of_region = choose_kinds(sums, voxels, options.kinds.confidence)
        one, other = of_region[between["one"]], of_region[between["other"]]
        between = between[(one == 0) | (other == 0) | (one == other)]
    if options.kind == "agglomerate":
        joined = agglomerate(count, between, options.swept, options.quantile)
    else:
        joined = join_mutex(count, between, options.swept)
    ends = np.stack([between["one"], between["other"]], axis=1).astype(np.int64)
    found = []
    for threshold, regions in zip(options.swept, joined, strict=True):
        if of_region.any():
            weights = between["total"] / between["count"]
            if options.kind == "mutex":
                weights = mutex_weights(between, threshold)
            regions = part_kinds(regions, ends[weights > 0], weights[weights > 0], of_region)
        names, index = np.unique(regions, return_inverse=True)
        found.append((index[region], len(names)))
    return found
