"""Objects that fragments make together by the affinities between them, for each of several thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from scalenet_gp.segmentation.affinities import sum_rows
from scalenet_gp.segmentation.agglomeration import agglomerate
from scalenet_gp.segmentation.fragments import order_objects
from scalenet_gp.segmentation.mutex import join_mutex
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
) -> list[tuple[np.ndarray, int]]:
    """Return for each threshold the object of each fragment, an index, and the number of objects.

    Args:
        rows: measures of all fragments, sorted by id.
        edges: of all blocks, rows of :data:`.EDGE_TYPE`.
        options: the method, with its thresholds: ``options.swept``.
        voxel_size: nm.
        links: for the agglomeration, pairs of fragments of one basin.
        passes: for the agglomeration, rows of :data:`.PASS_TYPE`.
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
    if options.kind == "agglomerate":
        joined = agglomerate(count, between, options.swept, options.quantile)
    else:
        joined = join_mutex(count, between, options.swept)
    found = []
    for regions in joined:
        names, index = np.unique(regions, return_inverse=True)
        found.append((index[region], len(names)))
    return found
