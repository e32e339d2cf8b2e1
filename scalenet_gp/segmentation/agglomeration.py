"""Agglomeration of fragments: the two that are attached most become one, until none are attached enough.

Edges are scored as in waterz: 1 - the mean affinity of all pairs of voxels between two regions, or 1 - a quantile of
them. When regions are merged, the affinities of their edges to a third one are put together. waterz agglomerates an
array in one piece. Here the graph of fragments is agglomerated, from sums that blocks make: as whole numbers, so that
neither the order of blocks nor that of merges changes a score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scalenet_gp.errors import ArgumentError
from scalenet_gp.kernels import numba_jit
from scalenet_gp.segmentation.affinities import STEPS
from scalenet_gp.segmentation.pair_table import find_slot

__all__ = ["agglomerate"]

_BINS = 256


def agglomerate(
    count: int, edges: np.ndarray, thresholds: Sequence[float], quantile: int | None = None
) -> list[np.ndarray]:
    """Return the region of each fragment for each threshold, as the index of the region's first fragment.

    Of equally attached pairs, the first one in the order of ``edges`` is merged first.

    Args:
        count: number of fragments.
        edges: rows of :data:`.EDGE_TYPE` with indices as ids, summed: see :func:`.sum_rows`. With a quantile, levels
            are those of affinities.
        thresholds: from 0 to 1, in ascending order: regions are merged while their score is below.
        quantile: percent of the affinities of an edge that are below the one by which it is scored; their mean counts
            unless given.

    Raises:
        ArgumentError: thresholds out of order.

    Example:
        >>> from scalenet_gp.segmentation import EDGE_TYPE
        >>> rows = [(0, 1, 0, 4, int(4 * 0.9 * STEPS)), (1, 2, 0, 4, int(4 * 0.3 * STEPS))]
        >>> [found.tolist() for found in agglomerate(3, np.array(rows, EDGE_TYPE), [0.05, 0.5, 0.8])]
        [[0, 1, 2], [0, 0, 2], [0, 0, 0]]
    """
    if list(thresholds) != sorted(thresholds):
        raise ArgumentError(f"thresholds={list(thresholds)} have to be in ascending order")
    one, other = (edges[name].astype(np.int64) for name in ("one", "other"))
    first = np.ones(len(edges), bool)
    first[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    edge = np.cumsum(first) - 1
    pairs = int(first.sum())
    counts, totals = np.zeros(pairs, np.int64), np.zeros(pairs, np.int64)
    np.add.at(counts, edge, edges["count"])
    np.add.at(totals, edge, edges["total"])
    histograms = np.zeros((0, 0), np.uint32)
    if quantile is not None:
        histograms = np.zeros((pairs, _BINS), np.uint32)
        np.add.at(histograms, (edge, edges["level"]), edges["count"].astype(np.uint32))
    regions = np.empty((len(thresholds), count), np.int64)
    ends = np.stack([one[first], other[first]], axis=1) if pairs else np.empty((0, 2), np.int64)
    _agglomerate(ends, counts, totals, histograms, quantile or 0, np.array(thresholds, np.float64), regions)
    return list(regions)


@numba_jit
def _score(edge: int, counts: np.ndarray, totals: np.ndarray, histograms: np.ndarray, percent: int) -> float:
    """Return the score of an edge."""
    if len(histograms) == 0:
        return 1 - totals[edge] / counts[edge] / STEPS
    below = np.int64(0)
    for level in range(_BINS):
        below += histograms[edge, level]
        if 100 * below > percent * counts[edge] or below == counts[edge]:
            return 1 - (level + 0.5) / _BINS
    return 1.0


@numba_jit
def _push(heap: np.ndarray, size: int, scores: np.ndarray, edge: int) -> int:
    """Put an edge into a heap whose first edge has the lowest score; returns the size."""
    place = size
    while place > 0:
        above = (place - 1) // 2
        if not _before(scores, edge, heap[above]):
            break
        heap[place] = heap[above]
        place = above
    heap[place] = edge
    return size + 1


@numba_jit
def _before(scores: np.ndarray, one: int, other: int) -> bool:
    return scores[one] < scores[other] or (scores[one] == scores[other] and one < other)


@numba_jit
def _pop(heap: np.ndarray, size: int, scores: np.ndarray) -> int:
    """Take the first edge out of a heap; returns the size."""
    size -= 1
    moved, place = heap[size], 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and _before(scores, heap[below + 1], heap[below]):
            below += 1
        if not _before(scores, heap[below], moved):
            break
        heap[place] = heap[below]
        place = below
    heap[place] = moved
    return size


@numba_jit
def _root(parents: np.ndarray, node: int) -> int:
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@numba_jit
def _agglomerate(
    ends: np.ndarray,
    counts: np.ndarray,
    totals: np.ndarray,
    histograms: np.ndarray,
    percent: int,
    thresholds: np.ndarray,
    regions: np.ndarray,
) -> None:
    """Merge regions, and write those of each threshold. ``ends``, ``counts``, ``totals`` and ``histograms`` change."""
    edges, nodes = len(ends), regions.shape[1]
    parents, first = np.arange(nodes), np.empty(nodes, np.int64)
    # the edges of a node are a list: the end 2e or 2e + 1 of an edge is followed by another end of an edge
    heads, following, lengths = np.full(nodes, -1), np.full(2 * edges, -1), np.zeros(nodes, np.int64)
    alive, stale, scores = np.ones(edges, np.bool_), np.zeros(edges, np.bool_), np.zeros(edges)
    heap, size = np.empty(edges, np.int64), 0
    slots = 16
    while slots < 4 * edges:
        slots *= 2
    keys, values = np.full(slots, -1, np.int64), np.empty(slots, np.int64)
    used = 0
    for edge in range(edges):
        for end in range(2):
            node = ends[edge, end]
            following[2 * edge + end] = heads[node]
            heads[node] = 2 * edge + end
            lengths[node] += 1
        scores[edge] = _score(edge, counts, totals, histograms, percent)
        size = _push(heap, size, scores, edge)
        slot = find_slot(keys, min(ends[edge, 0], ends[edge, 1]) * nodes + max(ends[edge, 0], ends[edge, 1]))
        keys[slot] = min(ends[edge, 0], ends[edge, 1]) * nodes + max(ends[edge, 0], ends[edge, 1])
        values[slot] = edge
        used += 1
    for index in range(len(thresholds)):
        while size > 0 and scores[heap[0]] < thresholds[index]:
            edge = heap[0]
            size = _pop(heap, size, scores)
            if not alive[edge]:
                continue
            if stale[edge]:
                stale[edge] = False
                scores[edge] = _score(edge, counts, totals, histograms, percent)
                size = _push(heap, size, scores, edge)
                continue
            alive[edge] = False
            kept, gone = ends[edge, 0], ends[edge, 1]
            if lengths[kept] < lengths[gone]:
                kept, gone = gone, kept
            parents[gone] = kept
            half = heads[gone]
            while half >= 0:
                after, moved, end = following[half], half // 2, half % 2
                if alive[moved]:
                    third = ends[moved, 1 - end]
                    key = min(kept, third) * nodes + max(kept, third)
                    slot = find_slot(keys, key)
                    joins = keys[slot] >= 0 and alive[values[slot]]
                    if joins:
                        # the cheaper one remains in the heap, where it is scored anew before it counts
                        double = values[slot]
                        if _before(scores, moved, double):
                            stays, leaves = moved, double
                        else:
                            stays, leaves = double, moved
                        counts[stays] += counts[leaves]
                        totals[stays] += totals[leaves]
                        for level in range(histograms.shape[1]):
                            histograms[stays, level] += histograms[leaves, level]
                        alive[leaves], stale[stays] = False, True
                        values[slot] = stays
                    if not joins or values[slot] == moved:
                        if keys[slot] < 0:
                            used += 1
                        keys[slot], values[slot] = key, moved
                        ends[moved, end] = kept
                        following[half] = heads[kept]
                        heads[kept] = half
                        lengths[kept] += 1
                half = after
            if 2 * used > slots:  # many keys are of regions that are gone
                keys[:] = -1
                used = 0
                for place in range(edges):
                    if alive[place]:
                        key = min(ends[place, 0], ends[place, 1]) * nodes + max(ends[place, 0], ends[place, 1])
                        slot = find_slot(keys, key)
                        keys[slot], values[slot] = key, place
                        used += 1
        first[:] = -1
        for node in range(nodes):
            root = _root(parents, node)
            if first[root] < 0:
                first[root] = node
            regions[index, node] = first[root]
