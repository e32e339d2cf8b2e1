"""Fragments: the components of single blocks, their measures, and the objects that connected fragments make together.

A fragment has an id that no other block uses. Its measures add up exactly, so that those of an object are the same
however the volume is divided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scalenet_gp.kernels import numba_jit

__all__ = [
    "fragment_type",
    "join_fragments",
    "look_up",
    "measure_fragments",
    "merge_fragments",
    "number_objects",
    "order_objects",
]


def fragment_type(dims: int) -> np.dtype[Any]:
    """Return the dtype of a row of measures, of fragments or of objects.

    Its fields are ``id``; ``voxels``, their number; ``first``, the first voxel in the order in which the volume's
    voxels are numbered along rows, then columns, then planes; ``begin`` and ``end`` of the bounding box, voxels, per
    axis; ``places``, the sum of the voxels' positions, per axis; and ``values``, the sum of the values given.

    Args:
        dims: number of axes.
    """
    axes = (dims,)
    return np.dtype(
        [
            ("id", np.uint64),
            ("voxels", np.int64),
            ("first", np.int64),
            ("begin", np.int64, axes),
            ("end", np.int64, axes),
            ("places", np.int64, axes),
            ("values", np.float64),
        ]
    )


def measure_fragments(
    labels: np.ndarray, count: int, values: np.ndarray, begin: Sequence[int], shape: Sequence[int], base: int
) -> np.ndarray:
    """Return the measures of the components of a block, a row for each: see :func:`fragment_type`.

    Args:
        labels: the components from 1 on, (z, y, x) or (y, x), uint32.
        count: their number.
        values: a value of each voxel, of the same shape.
        begin: the block's first voxel, per axis.
        shape: voxels of the volume.
        base: the ids are this plus the component's number.
    """
    dims = labels.ndim
    lifted = (1,) * (3 - dims) + labels.shape
    voxels, first = np.zeros(count + 1, np.int64), np.full(count + 1, -1, np.int64)
    low, high = np.full((count + 1, 3), np.iinfo(np.int64).max), np.zeros((count + 1, 3), np.int64)
    places, total = np.zeros((count + 1, 3), np.int64), np.zeros(count + 1)
    solid = np.ascontiguousarray(labels.reshape(lifted), np.uint32)
    _measure(solid, values.reshape(lifted).astype(np.float32, copy=False), voxels, first, low, high, places, total)
    rows = np.zeros(count, fragment_type(dims))
    rows["id"] = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(base)
    rows["voxels"], rows["values"] = voxels[1:], total[1:]
    corner = np.asarray(begin, np.int64)
    rows["begin"], rows["end"] = low[1:, 3 - dims :] + corner, high[1:, 3 - dims :] + corner
    rows["places"] = places[1:, 3 - dims :] + voxels[1:, None] * corner
    where = np.stack(np.unravel_index(first[1:], labels.shape), axis=1) + corner
    steps = [math.prod(shape[axis + 1 :]) for axis in range(dims)]
    rows["first"] = where @ np.asarray(steps, np.int64)
    return rows


@numba_jit
def _measure(
    labels: np.ndarray,
    values: np.ndarray,
    voxels: np.ndarray,
    first: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    places: np.ndarray,
    total: np.ndarray,
) -> None:
    """Add up the measures of every label, by its number."""
    index = 0
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = labels[z, y, x]
                if label:
                    if voxels[label] == 0:
                        first[label] = index
                    voxels[label] += 1
                    total[label] += values[z, y, x]
                    low[label, 0] = min(low[label, 0], z)
                    low[label, 1] = min(low[label, 1], y)
                    low[label, 2] = min(low[label, 2], x)
                    high[label, 0] = max(high[label, 0], z + 1)
                    high[label, 1] = max(high[label, 1], y + 1)
                    high[label, 2] = max(high[label, 2], x + 1)
                    places[label, 0] += z
                    places[label, 1] += y
                    places[label, 2] += x
                index += 1


def join_fragments(ids: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the object of each fragment, an index, and the number of objects: fragments in a chain of pairs are one.

    Args:
        ids: the ids of all fragments, sorted.
        pairs: ids that belong together, (pair, 2).

    Example:
        >>> join_fragments(np.array([3, 5, 8]), np.array([[3, 8]]))
        (array([0, 1, 0], dtype=int32), 2)
    """
    from scipy.sparse import coo_array  # slow to import
    from scipy.sparse.csgraph import connected_components

    one, other = (np.searchsorted(ids, pairs[:, side]) for side in (0, 1))
    graph = coo_array((np.ones(len(pairs), np.int8), (one, other)), shape=(len(ids), len(ids)))
    count, objects = connected_components(graph, directed=False)
    return objects, int(count)


def merge_fragments(rows: np.ndarray, objects: np.ndarray, count: int) -> np.ndarray:
    """Return the measures of objects from those of their fragments. Their ids are 0.

    Args:
        rows: measures of fragments.
        objects: the object of each, an index.
        count: number of objects.
    """
    merged = np.zeros(count, rows.dtype)
    merged["first"], merged["begin"] = np.iinfo(np.int64).max, np.iinfo(np.int64).max
    for name in ("voxels", "places", "values"):
        np.add.at(merged[name], objects, rows[name])
    for name in ("first", "begin"):
        np.minimum.at(merged[name], objects, rows[name])
    np.maximum.at(merged["end"], objects, rows["end"])
    return merged


def order_objects(rows: np.ndarray, objects: np.ndarray, count: int) -> np.ndarray:
    """Return the object of each fragment, an index in the order of the objects' first voxels.

    Args:
        rows: measures of fragments.
        objects: the object of each, an index in any order.
        count: number of objects.
    """
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, objects, rows["first"])
    rank = np.empty(count, np.int64)
    rank[np.argsort(first)] = np.arange(count)
    ordered: np.ndarray = rank[objects]
    return ordered


def number_objects(
    rows: np.ndarray, objects: np.ndarray, count: int, choose: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Number the objects that fragments make, from 1 on in the order of their first voxels.

    So the numbers do not depend on the division into blocks.

    Args:
        rows: measures of all fragments, sorted by id.
        objects: the object of each fragment, an index.
        count: number of objects.
        choose: returns which objects are numbered, boolean, from their measures; the others have the number 0.

    Returns:
        The number of each fragment, in the smallest unsigned type, and the measures of the numbered objects, whose ids
        are their numbers.
    """
    merged = merge_fragments(rows, objects, count)
    chosen = np.flatnonzero(choose(merged))
    chosen = chosen[np.argsort(merged["first"][chosen])]
    numbers = np.zeros(count, np.min_scalar_type(len(chosen)))
    numbers[chosen] = np.arange(1, len(chosen) + 1)
    numbered = merged[chosen]
    numbered["id"] = np.arange(1, len(chosen) + 1)
    return numbers[objects], numbered


def look_up(labels: np.ndarray, ids: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the number of each label, of the shape of ``labels``; 0 for labels that are not in the table.

    Args:
        labels: any labels.
        ids: the labels of the table, sorted.
        numbers: the number of each.

    Example:
        >>> look_up(np.array([0, 9, 4, 4]), np.array([4, 9]), np.array([2, 1], np.uint8))
        array([0, 1, 2, 2], dtype=uint8)
    """
    from fastremap import unique  # slow to import

    found, index = unique(labels, return_inverse=True)
    place = np.searchsorted(ids, found)
    known = place < len(ids)
    known[known] = ids[place[known]] == found[known]
    of_found = np.zeros(len(found), numbers.dtype)
    of_found[known] = numbers[place[known]]
    return of_found[index].reshape(labels.shape)
