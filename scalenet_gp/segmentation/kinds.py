"""Kinds of fragments, such as cells and vessels: those of different kinds are never joined, also not through others."""

from __future__ import annotations

import numpy as np

from scalenet_gp.kernels import numba_jit
from scalenet_gp.segmentation.affinities import STEPS

__all__ = ["choose_kinds", "cut_kinds", "part_kinds", "sum_kinds"]


def cut_kinds(labels: np.ndarray, count: int, probabilities: np.ndarray, confidence: float) -> tuple[np.ndarray, int]:
    """Return fragments without two kinds in one: such a fragment is cut where the most probable kind changes.

    Only fragments are cut that hold voxels of two kinds whose probabilities are above the confidence. Their pieces are
    connected by faces.

    Args:
        labels: fragments from 1 on, connected by faces, uint32 (z, y, x) or (y, x); 0 for none.
        count: their number.
        probabilities: (kind, z, y, x) of the same voxels.
        confidence: the probability that a kind has to be above.

    Returns:
        The labels of the pieces from 1 on, uint32, and their number.

    Example:
        >>> labels = np.array([[1, 1, 1, 1, 2]], np.uint32)
        >>> probabilities = np.array([[[0.9, 0.6, 0.4, 0.0, 0.9]], [[0.1, 0.4, 0.6, 1.0, 0.1]]])
        >>> cut_kinds(labels, 2, probabilities, 0.8)[0].tolist()
        [[1, 1, 2, 2, 3]]
    """
    from cc3d import connected_components  # slow to import

    best = probabilities.argmax(axis=0)
    there = np.zeros((count + 1, len(probabilities)), bool)
    sure = probabilities.max(axis=0) > confidence
    there[labels[sure], best[sure]] = True
    mixed = there.sum(axis=1) > 1
    mixed[0] = False
    if not mixed.any():
        return labels, count
    pieces = np.where(labels > 0, labels.astype(np.uint64) * np.uint64(len(probabilities)), np.uint64(0))
    pieces += np.where(mixed[labels], best, 0).astype(np.uint64)
    solid = np.ascontiguousarray(pieces.reshape((1,) * (3 - pieces.ndim) + pieces.shape))
    found, number = connected_components(solid, connectivity=6, return_N=True, out_dtype=np.uint32)
    return found.reshape(labels.shape), int(number)


def sum_kinds(labels: np.ndarray, count: int, probabilities: np.ndarray) -> np.ndarray:
    """Return the sums of the probabilities of each kind in each fragment, in :data:`.STEPS`, int64 (fragment, kind).

    Args:
        labels: fragments from 1 on, (z, y, x) or (y, x).
        count: their number.
        probabilities: (kind, z, y, x) of the same voxels.
    """
    flat = labels.ravel()
    sums = [np.bincount(flat, np.rint(kind.ravel().astype(np.float64) * STEPS), count + 1) for kind in probabilities]
    return np.stack(sums, axis=1)[1:].astype(np.int64)


def choose_kinds(sums: np.ndarray, voxels: np.ndarray, confidence: float) -> np.ndarray:
    """Return the kind of each fragment from 1 on: that of the largest mean probability; 0 if this is no higher.

    Args:
        sums: see :func:`sum_kinds`.
        voxels: of each fragment.
        confidence: the mean probability that a kind has to be above.

    Example:
        >>> sums = np.array([[9, 1], [5, 5], [2, 8]]) * STEPS
        >>> choose_kinds(sums, np.array([10, 10, 10]), 0.6).tolist()
        [1, 0, 2]
    """
    means = sums / voxels[:, None] / STEPS
    kinds: np.ndarray = np.where(means.max(axis=1) > confidence, means.argmax(axis=1) + 1, 0)
    return kinds


def part_kinds(regions: np.ndarray, ends: np.ndarray, weights: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return regions without two kinds in one: such a region is parted along its weakest edges.

    Its strongest edges come first, and each joins two parts unless these are of different kinds: the cut of a maximum
    spanning forest with the kinds as seeds. Other regions stay as they are.

    Args:
        regions: the region of each fragment, as the index of one of its fragments.
        ends: the fragments of each edge, (edge, 2).
        weights: of each edge.
        kinds: of each fragment; 0 if it is of none.

    Returns:
        The region of each fragment, as the index of one of its fragments.

    Example:
        >>> ends, weights = np.array([[0, 1], [1, 2], [2, 3]]), np.array([0.9, 0.4, 0.8])
        >>> part_kinds(np.zeros(4, int), ends, weights, np.array([1, 0, 0, 2])).tolist()
        [0, 0, 2, 2]
    """
    known = np.flatnonzero(kinds)
    low, high = np.full(len(regions), len(kinds) + kinds.max(initial=0)), np.zeros(len(regions), np.int64)
    np.minimum.at(low, regions[known], kinds[known])
    np.maximum.at(high, regions[known], kinds[known])
    mixed = (high > low)[regions]
    if not mixed.any():
        return regions
    inside = np.flatnonzero(mixed[ends[:, 0]] & (regions[ends[:, 0]] == regions[ends[:, 1]]))
    order = inside[np.argsort(-weights[inside], kind="stable")]
    parts = np.arange(len(regions))
    _join(ends[order].astype(np.int64), kinds.astype(np.int64).copy(), parts)
    parted: np.ndarray = np.where(mixed, parts, regions)
    return parted


@numba_jit
def _join(ends: np.ndarray, kinds: np.ndarray, parts: np.ndarray) -> None:
    """Join the ends of edges unless their parts are of different kinds; ``parts`` becomes the first of each part."""
    for index in range(len(ends)):
        a, b = ends[index, 0], ends[index, 1]
        while parts[a] != a:
            parts[a] = parts[parts[a]]
            a = parts[a]
        while parts[b] != b:
            parts[b] = parts[parts[b]]
            b = parts[b]
        if a != b and (kinds[a] == 0 or kinds[b] == 0 or kinds[a] == kinds[b]):
            first, second = min(a, b), max(a, b)
            parts[second] = first
            kinds[first] = max(kinds[a], kinds[b])
    for index in range(len(parts)):
        root = index
        while parts[root] != root:
            root = parts[root]
        parts[index] = root
