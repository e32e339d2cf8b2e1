"""Affinities between neighbours: what parts voxels, and the scores of the edges between fragments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scalenet_gp.errors import ArgumentError
from scalenet_gp.kernels import numba_jit
from scalenet_gp.segmentation.pair_table import find_slot

__all__ = [
    "EDGE_TYPE",
    "STEPS",
    "adjacent_offsets",
    "attached_faces",
    "forward_affinities",
    "is_adjacent",
    "mean_affinities",
    "offset_reach",
    "sum_edges",
    "sum_rows",
]

STEPS = 2**20
"""Parts of 1 in which affinities are summed, as whole numbers: sums do not depend on the order."""

EDGE_TYPE: np.dtype[Any] = np.dtype(
    [("one", np.uint64), ("other", np.uint64), ("level", np.uint16), ("count", np.int64), ("total", np.int64)]
)
"""A row for each pair of fragments, the smaller id first, and each level, which stands for a group of offsets or of
affinities: ``count`` pairs of voxels, and ``total``, the sum of their affinities in :data:`STEPS`."""


def is_adjacent(offset: Sequence[int]) -> bool:
    """Return whether an offset leads to a voxel that shares a face.

    Example:
        >>> is_adjacent((0, -1, 0)), is_adjacent((0, 1, 1))
        (True, False)
    """
    return sum(map(abs, offset)) == 1


def adjacent_offsets(offsets: Sequence[Sequence[int]]) -> list[int]:
    """Return the index of the offset to the neighbour along each axis, of either side.

    Raises:
        ArgumentError: there is none along an axis.

    Example:
        >>> adjacent_offsets([(-1, 0), (0, 9), (0, 1)])
        [0, 2]
    """
    dims = len(offsets[0])
    found: dict[int, int] = {}
    for index, offset in enumerate(offsets):
        if is_adjacent(offset):
            found.setdefault([*map(abs, offset)].index(1), index)
    if missing := [axis for axis in range(dims) if axis not in found]:
        raise ArgumentError(
            f"of the offsets {[tuple(offset) for offset in offsets]} none leads to the neighbour along axis "
            f"{missing[0]}: affinities to the voxels that share a face are needed"
        )
    return [found[axis] for axis in range(dims)]


def offset_reach(offsets: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how many voxels offsets reach, below and above, per axis.

    Example:
        >>> offset_reach([(-1, 0), (0, 9)])
        ((1, 0), (0, 9))
    """
    along = list(zip(*offsets, strict=True))
    return tuple(max(0, -min(one)) for one in along), tuple(max(0, max(one)) for one in along)


def forward_affinities(affinities: np.ndarray, offsets: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the affinity of each voxel to the one behind it along each axis, (axis, z, y, x); 0 for the last voxel.

    Args:
        affinities: (offset, z, y, x) or (offset, y, x), float32.
        offsets: in voxels; one to a neighbour along each axis among them: see :func:`adjacent_offsets`.

    Example:
        >>> forward_affinities(np.array([[[0, 0.25, 0.5]], [[0, 0, 0]]]), [(0, -1), (1, 0)])[1].tolist()
        [[0.25, 0.5, 0.0]]
    """
    forward = np.zeros((affinities.ndim - 1, *affinities.shape[1:]), affinities.dtype)
    for axis, index in enumerate(adjacent_offsets(offsets)):
        before = _along(axis, slice(None, -1))
        forward[axis][before] = affinities[index][_along(axis, slice(1, None)) if min(offsets[index]) < 0 else before]
    return forward


def mean_affinities(forward: np.ndarray) -> np.ndarray:
    """Return the mean affinity of each voxel to its neighbours, (z, y, x): of as many as there are.

    Args:
        forward: see :func:`forward_affinities`.

    Example:
        >>> mean_affinities(np.array([[[0, 0, 0]], [[1, 0.5, 0]]], np.float32)).tolist()
        [[1.0, 0.75, 0.5]]
    """
    total, count = np.zeros(forward.shape[1:], np.float32), np.zeros(forward.shape[1:], np.float32)
    for axis, along in enumerate(forward):
        first, last = _along(axis, slice(None, -1)), _along(axis, slice(1, None))
        for voxel in (first, last):
            total[voxel] += along[first]
            count[voxel] += 1
    mean: np.ndarray = total / np.maximum(count, 1)
    return mean


def attached_faces(forward: np.ndarray, threshold: float) -> np.ndarray:
    """Return which faces part no neighbours, uint8 (z, y, x).

    Bit 0 stands for the face to the voxel behind along the first axis, bit 1 along the second, and so on.

    Args:
        forward: see :func:`forward_affinities`.
        threshold: the affinity from which on neighbours are attached.

    Example:
        >>> attached_faces(np.array([[[0, 0]], [[0.7, 0]]]), 0.5).tolist()
        [[2, 0]]
    """
    bits = np.zeros(forward.shape[1:], np.uint8)
    for axis, along in enumerate(forward):
        bits |= (along >= threshold).astype(np.uint8) << axis
    return bits


def sum_edges(
    labels: np.ndarray,
    affinities: np.ndarray,
    offsets: Sequence[Sequence[int]],
    corner: Sequence[int],
    levels: Sequence[int] | None,
    biases: Sequence[float] | None = None,
) -> np.ndarray:
    """Return the edges of a block's voxels, rows of :data:`EDGE_TYPE`.

    A pair of voxels counts in the block of the one that its offset starts from.

    Args:
        labels: fragments, 0 for none, of the block and as many voxels around it as the offsets reach, as far as the
            volume goes.
        affinities: (offset, z, y, x) of the block.
        offsets: in voxels.
        corner: the block's first voxel in ``labels``.
        levels: the level of each offset; None for that of the affinity among 256.
        biases: added to the affinities of each offset; nothing unless given.
    """
    from fastremap import unique  # slow to import

    dims = labels.ndim
    lift = (1,) * (3 - dims)
    ids, compact = unique(labels, return_inverse=True)
    if len(ids) == 0 or ids[0] != 0:
        ids, compact = np.concatenate([np.zeros(1, ids.dtype), ids]), compact + 1
    moves = np.zeros((len(offsets), 3), np.int64)
    moves[:, 3 - dims :] = offsets
    keys, counts, totals = _sum_edges(
        np.ascontiguousarray(compact.reshape(lift + labels.shape), np.uint32),
        np.ascontiguousarray(affinities.reshape(affinities.shape[:1] + lift + affinities.shape[1:]), np.float32),
        moves,
        np.array([0] * (3 - dims) + [int(c) for c in corner], np.int64),
        np.full(len(offsets), -1, np.int64) if levels is None else np.array(levels, np.int64),
        np.zeros(len(offsets)) if biases is None else np.array(biases, np.float64),
        len(ids),
    )
    order = np.argsort(keys)
    keys = keys[order]
    rows = np.zeros(len(keys), EDGE_TYPE)
    pairs, rows["level"] = np.divmod(keys, 256)
    one, other = np.divmod(pairs, len(ids))
    rows["one"], rows["other"] = ids[one], ids[other]
    rows["count"], rows["total"] = counts[order], totals[order]
    return rows


def sum_rows(rows: np.ndarray) -> np.ndarray:
    """Return each pair and level once, in order, the smaller id first, with the sums of their rows; no loops."""
    one, other = np.minimum(rows["one"], rows["other"]), np.maximum(rows["one"], rows["other"])
    apart = one != other
    rows, one, other = rows[apart], one[apart], other[apart]
    order = np.lexsort((rows["level"], other, one))
    rows, one, other = rows[order], one[order], other[order]
    new = np.ones(len(rows), bool)
    new[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1]) | (rows["level"][1:] != rows["level"][:-1])
    begins = np.flatnonzero(new)
    summed = rows[begins]
    summed["one"], summed["other"] = one[begins], other[begins]
    if len(begins):
        for name in ("count", "total"):
            summed[name] = np.add.reduceat(rows[name], begins)
    return summed


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, part)


@numba_jit
def _sum_edges(
    labels: np.ndarray,
    affinities: np.ndarray,
    offsets: np.ndarray,
    corner: np.ndarray,
    levels: np.ndarray,
    biases: np.ndarray,
    labels_end: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return keys of pairs and levels, counts and sums. A key is ``(smaller * labels_end + larger) * 256 + level``."""
    size = 1024
    keys, counts, totals = np.full(size, -1, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64)
    used = 0
    depth, rows, columns = affinities.shape[1:]
    for z in range(depth):
        for y in range(rows):
            for x in range(columns):
                a, b, c = z + corner[0], y + corner[1], x + corner[2]
                own = np.int64(labels[a, b, c])
                if own == 0:
                    continue
                for index in range(len(offsets)):
                    e, f, g = a + offsets[index, 0], b + offsets[index, 1], c + offsets[index, 2]
                    if e < 0 or f < 0 or g < 0 or e >= labels.shape[0] or f >= labels.shape[1] or g >= labels.shape[2]:
                        continue
                    other = np.int64(labels[e, f, g])
                    if other == 0 or other == own:
                        continue
                    value = np.float64(affinities[index, z, y, x])
                    level = levels[index]
                    if level < 0:
                        level = min(255, max(0, int(value * 256)))
                    key = (min(own, other) * labels_end + max(own, other)) * 256 + level
                    slot = find_slot(keys, key)
                    if keys[slot] < 0:
                        if 2 * used >= size:
                            before, counted, summed = keys, counts, totals
                            size *= 2
                            keys = np.full(size, -1, np.int64)
                            counts, totals = np.zeros(size, np.int64), np.zeros(size, np.int64)
                            for place in range(len(before)):
                                if before[place] >= 0:
                                    slot = find_slot(keys, before[place])
                                    keys[slot] = before[place]
                                    counts[slot], totals[slot] = counted[place], summed[place]
                            slot = find_slot(keys, key)
                        keys[slot] = key
                        used += 1
                    counts[slot] += 1
                    totals[slot] += np.int64(np.rint((value + biases[index]) * STEPS))
    found = keys >= 0
    return keys[found], counts[found], totals[found]
