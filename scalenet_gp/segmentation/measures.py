"""Measures of the objects of any volume of ids, in whole numbers: those of blocks add up to those of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scalenet_gp.errors import DataError
from scalenet_gp.kernels import numba_jit
from scalenet_gp.segmentation.surfaces import crossing_steps

__all__ = [
    "PARTS",
    "contact_type",
    "count_overlaps",
    "measure_objects",
    "measure_type",
    "merge_contacts",
    "merge_measures",
    "merge_overlaps",
    "overlap_type",
]

PARTS = 2**24
"""The parts of 1 that the fraction of a value is counted in, so that sums of values are whole numbers."""

_WRAP = 2.0**64

_BEYOND = np.uint32(2**32 - 1)
"""A label for voxels beyond the volume."""


def measure_type(dims: int, values: int) -> np.dtype[Any]:
    """Return the dtype of a row of measures, of a part of an object or of a whole one.

    Its fields are ``id``; ``voxels``, their number; ``begin`` and ``end`` of the bounding box, voxels, per axis;
    ``corner``, a voxel; ``places``, the sum of the voxels' positions from that corner, per axis; ``products``, the sums
    of the products of two of these positions, for each pair of axes (zz, zy, zx, yy, yx, xx), and ``wraps``, what these
    lack in units of 2**64, as those of long objects do not fit into 64 bits; ``crossings`` of the
    surface, for each of :func:`.crossing_steps`; ``cut``, the faces at the border of the volume, for each axis across
    which they lie; ``whole`` and ``parts``, for each value its sum: whole numbers, and :data:`PARTS` of 1.

    Args:
        dims: number of axes.
        values: number of values of a voxel.
    """
    axes = (dims,)
    return np.dtype(
        [
            ("id", np.uint64),
            ("voxels", np.int64),
            ("begin", np.int64, axes),
            ("end", np.int64, axes),
            ("corner", np.int64, axes),
            ("places", np.int64, axes),
            ("products", np.int64, (dims * (dims + 1) // 2,)),
            ("wraps", np.int64, (dims * (dims + 1) // 2,)),
            ("crossings", np.int64, (len(crossing_steps(dims)),)),
            ("cut", np.int64, axes),
            ("whole", np.int64, (values,)),
            ("parts", np.int64, (values,)),
        ]
    )


def contact_type(dims: int) -> np.dtype[Any]:
    """Return the dtype of a row of contacts: the ids ``one`` and ``other``, and the ``crossings`` between them.

    The first id is the smaller one. Crossings are counted as in :func:`measure_type`, with no regard to direction.
    """
    return np.dtype([("one", np.uint64), ("other", np.uint64), ("crossings", np.int64, (len(crossing_steps(dims)),))])


def overlap_type() -> np.dtype[Any]:
    """Return the dtype of a row of overlaps: ``id``; ``parent``, of another volume; and their common ``voxels``."""
    return np.dtype([("id", np.uint64), ("parent", np.uint64), ("voxels", np.int64)])


def measure_objects(
    ids: np.ndarray,
    values: Sequence[np.ndarray] = (),
    begin: Sequence[int] | None = None,
    inner: tuple[slice, ...] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the measures of the objects of a block, and their contacts.

    Rows of blocks are merged by :func:`merge_measures` and :func:`merge_contacts`; however a volume is divided, they
    become the same. A pair of voxels belongs to the block of its first one, so a block is given with a margin.

    Args:
        ids: (z, y, x) or (y, x), whole numbers, 0 for none; the block, with one voxel more on every side on which the
            volume goes on.
        values: values of each voxel of the block, in the shape of the block. Fractions are rounded to 1 / 2**24.
        begin: the block's first voxel, per axis; 0 unless given.
        inner: the block within ``ids``; all of it unless given.

    Returns:
        Rows of :func:`measure_type`, sorted by id, and of :func:`contact_type`.

    Raises:
        DataError: a value of an object's voxel is not finite.

    Example:
        >>> rows, contacts = measure_objects(np.array([[7, 7, 9, 0]]))
        >>> rows["id"].tolist(), rows["voxels"].tolist(), contacts[["one", "other"]].tolist()
        ([7, 9], [2, 1], [(7, 9)])
        >>> rows["crossings"][:, :2].tolist(), rows["cut"].tolist()  # across y and x: faces within, and at the border
        ([[0, 1], [0, 2]], [[4, 1], [2, 0]])
    """
    dims = ids.ndim
    within = tuple(slice(0, length) for length in ids.shape) if inner is None else inner
    first = (0,) * dims if begin is None else tuple(map(int, begin))
    names, labels = _compact(ids)
    around = np.pad(labels, 1, constant_values=_BEYOND)
    lifted = around.reshape((1,) * (3 - dims) + around.shape)
    lifted = np.pad(lifted, [(1, 1)] * (3 - dims) + [(0, 0)] * dims, constant_values=_BEYOND)
    corner = np.array([1] * (3 - dims) + [place.start + 1 for place in within])
    shape = np.array([1] * (3 - dims) + [place.stop - place.start for place in within])
    steps = np.pad(crossing_steps(dims), [(0, 0), (3 - dims, 0)])
    sums, box, crossings, cut, keys, counts = _measure(lifted, len(names), corner, shape, steps)
    rows = np.zeros(len(names), measure_type(dims, len(values)))
    rows["id"], rows["voxels"] = names, sums[:, 0]
    axes, pairs = slice(3 - dims, 3), [0, 1, 2, 3, 4, 5] if dims == 3 else [3, 4, 5]
    rows["corner"] = first
    rows["begin"], rows["end"] = box[:, 0, axes] + first, box[:, 1, axes] + first
    rows["places"], rows["products"] = sums[:, 1:4][:, axes], sums[:, 4:][:, pairs]
    rows["crossings"], rows["cut"] = crossings, cut[:, axes]
    inside = labels[within]
    for index, of in enumerate(values):
        rows["whole"][:, index], rows["parts"][:, index] = _sums(inside, of, len(names))
    found = keys >= 0
    contacts = np.zeros(int(found.sum()), contact_type(dims))
    contacts["one"], contacts["other"] = names[keys[found] // len(names)], names[keys[found] % len(names)]
    contacts["crossings"] = counts[found]
    there = names > 0
    return rows[there & ((rows["voxels"] > 0) | (crossings > 0).any(axis=1))], merge_contacts(contacts)


def count_overlaps(ids: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Return the overlaps of objects with those of another volume, rows of :func:`overlap_type`.

    Args:
        ids: whole numbers, 0 for none.
        parents: the ids of the other volume, in the same shape.

    Example:
        >>> count_overlaps(np.array([7, 7, 7, 9]), np.array([1, 1, 2, 0])).tolist()
        [(7, 1, 2), (7, 2, 1)]
    """
    (names, labels), (others, of) = _compact(ids), _compact(parents)
    both = (ids != 0) & (parents != 0)
    found, voxels = np.unique(labels[both].astype(np.int64) * len(others) + of[both], return_counts=True)
    rows = np.zeros(len(found), overlap_type())
    rows["id"], rows["parent"], rows["voxels"] = names[found // len(others)], others[found % len(others)], voxels
    return rows


def merge_measures(rows: np.ndarray) -> np.ndarray:
    """Return the measures of whole objects, sorted by id, from those of their parts in any order.

    Their corners are the first voxels of their boxes.
    """
    ids, index = np.unique(rows["id"], return_inverse=True)
    merged = np.zeros(len(ids), rows.dtype)
    merged["id"], merged["begin"], merged["end"] = ids, np.iinfo(np.int64).max, np.iinfo(np.int64).min
    np.minimum.at(merged["begin"], index, rows["begin"])
    np.maximum.at(merged["end"], index, rows["end"])
    merged["corner"] = merged["begin"]
    for name in ("voxels", "crossings", "cut", "whole", "parts"):
        np.add.at(merged[name], index, rows[name])
    shift = rows["corner"] - merged["corner"][index]
    np.add.at(merged["places"], index, rows["places"] + rows["voxels"][:, None] * shift)
    np.add.at(merged["products"], index, rows["products"] + _shifted(rows["voxels"], rows["places"], shift))
    # integers wrap at 2**64; real numbers, which are off by far less, tell how often
    nearly = np.zeros(merged["products"].shape)
    real = (array.astype(np.float64) for array in (rows["voxels"], rows["places"], shift))
    np.add.at(nearly, index, rows["products"] + rows["wraps"] * _WRAP + _shifted(*real))
    merged["wraps"] = np.rint((nearly - merged["products"]) / _WRAP)
    return merged


def _shifted(voxels: np.ndarray, places: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return what is added to the products of positions, (row, pair), if all positions are shifted."""
    pairs = [(one, other) for one in range(shift.shape[1]) for other in range(one, shift.shape[1])]
    return np.stack(
        [
            shift[:, one] * places[:, other]
            + shift[:, other] * places[:, one]
            + voxels * shift[:, one] * shift[:, other]
            for one, other in pairs
        ],
        axis=1,
    )


def merge_contacts(rows: np.ndarray) -> np.ndarray:
    """Return the contacts of all blocks, each pair of ids once, sorted, from those of blocks in any order."""
    return _merge(rows, ("one", "other"), "crossings")


def merge_overlaps(rows: np.ndarray) -> np.ndarray:
    """Return the overlaps of all blocks, each pair of ids once, sorted, from those of blocks in any order."""
    return _merge(rows, ("id", "parent"), "voxels")


def _merge(rows: np.ndarray, keys: tuple[str, str], summed: str) -> np.ndarray:
    ordered = rows[np.lexsort((rows[keys[1]], rows[keys[0]]))]
    new = np.ones(len(ordered), bool)
    new[1:] = (ordered[keys[0]][1:] != ordered[keys[0]][:-1]) | (ordered[keys[1]][1:] != ordered[keys[1]][:-1])
    first = np.flatnonzero(new)
    merged = ordered[first]
    if len(first):
        merged[summed] = np.add.reduceat(ordered[summed], first, axis=0)
    return merged


def _compact(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids that occur, sorted, with 0 in any case first, and the index of every voxel's id among them."""
    from fastremap import unique  # slow to import

    found, index = unique(np.ascontiguousarray(ids), return_inverse=True)
    labels = index.reshape(ids.shape).astype(np.uint32)
    if len(found) and found[0] == 0:
        return found.astype(np.uint64), labels
    return np.concatenate([np.zeros(1, np.uint64), found.astype(np.uint64)]), labels + np.uint32(1)


def _sums(labels: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of the values of each label: whole numbers, and parts of 1."""
    if values.dtype.kind in "biu":
        return _sum_whole(
            labels.ravel(), np.ravel(values.view(np.uint8) if values.dtype.kind == "b" else values), count
        )
    real = np.ravel(values).astype(np.float64 if values.dtype == np.float64 else np.float32, copy=False)
    if not np.isfinite(real[labels.ravel() > 0]).all():
        raise DataError("a value of an object's voxel is not a finite number, so that the object has no mean of it")
    return _sum_real(labels.ravel(), real, count)


@numba_jit
def _sum_whole(labels: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    whole = np.zeros(count, np.int64)
    for index in range(len(labels)):
        whole[labels[index]] += np.int64(values[index])
    return whole, np.zeros(count, np.int64)


@numba_jit
def _sum_real(labels: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    whole, parts = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for index in range(len(labels)):
        label = labels[index]
        if label:
            below = np.floor(np.float64(values[index]))
            whole[label] += np.int64(below)
            parts[label] += np.int64(np.rint((np.float64(values[index]) - below) * 16777216.0))
    return whole, parts


@numba_jit
def _measure(
    labels: np.ndarray, count: int, corner: np.ndarray, shape: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Add up the measures of every label.

    Args:
        labels: with a margin of one voxel, (z, y, x).
        count: number of labels.
        corner: the first voxel of the block within them.
        shape: of the block.
        steps: to the neighbours, (step, 3).

    Returns:
        Sums for each label (voxels, 3 positions, 6 products), its box (2, 3), its crossings, its faces at the border of
        the volume; and a hash table of contacts: codes of pairs of labels, -1 for none, and their crossings.
    """
    sums = np.zeros((count, 10), np.int64)
    box = np.empty((count, 2, 3), np.int64)
    box[:, 0], box[:, 1] = 2**62, -(2**62)
    crossings = np.zeros((count, len(steps)), np.int64)
    cut = np.zeros((count, 3), np.int64)
    keys, counts, used = np.full(64, -1, np.int64), np.zeros((64, len(steps)), np.int64), 0
    flat, row_length, plane = labels.ravel(), labels.shape[2], labels.shape[1] * labels.shape[2]
    ahead = steps[:, 0] * plane + steps[:, 1] * row_length + steps[:, 2]
    first = corner[0] * plane + corner[1] * row_length + corner[2]
    for z in range(shape[0]):
        for y in range(shape[1]):
            for x in range(shape[2]):
                place = first + z * plane + y * row_length + x
                one = flat[np.uint64(place)]
                if one:
                    row = sums[one]
                    row[0] += 1
                    row[1] += z
                    row[2] += y
                    row[3] += x
                    row[4] += z * z
                    row[5] += z * y
                    row[6] += z * x
                    row[7] += y * y
                    row[8] += y * x
                    row[9] += x * x
                    box[one, 0, 0] = min(box[one, 0, 0], z)
                    box[one, 0, 1] = min(box[one, 0, 1], y)
                    box[one, 0, 2] = min(box[one, 0, 2], x)
                    box[one, 1, 0] = max(box[one, 1, 0], z + 1)
                    box[one, 1, 1] = max(box[one, 1, 1], y + 1)
                    box[one, 1, 2] = max(box[one, 1, 2], x + 1)
                    cut[one, 0] += (flat[place - plane] == _BEYOND) + (flat[place + plane] == _BEYOND)
                    cut[one, 1] += (flat[place - row_length] == _BEYOND) + (flat[place + row_length] == _BEYOND)
                    cut[one, 2] += (flat[place - 1] == _BEYOND) + (flat[place + 1] == _BEYOND)
                for step in range(len(steps)):
                    other = flat[np.uint64(place + ahead[step])]  # unsigned: no index counts from the end
                    if other in (one, _BEYOND):
                        continue
                    if one:
                        crossings[one, step] += 1
                    if other:
                        crossings[other, step] += 1
                    if one and other:
                        code = np.int64(min(one, other)) * count + np.int64(max(one, other))
                        slot = _slot(keys, code)
                        if keys[slot] < 0:
                            if 2 * used >= len(keys):
                                keys, counts = _grown(keys, counts)
                                slot = _slot(keys, code)
                            keys[slot] = code
                            used += 1
                        counts[slot, step] += 1
    return sums, box, crossings, cut, keys, counts


@numba_jit
def _slot(keys: np.ndarray, code: Any) -> Any:
    """Return the place of a code in a hash table, whose length is a power of 2, or the free place for it."""
    last = len(keys) - 1
    slot = (code ^ (code >> 17)) * 40503 & last
    while keys[slot] >= 0 and keys[slot] != code:
        slot = (slot + 1) & last
    return slot


@numba_jit
def _grown(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a hash table of twice the length."""
    wider, more = np.full(2 * len(keys), -1, np.int64), np.zeros((2 * len(keys), counts.shape[1]), np.int64)
    for index in range(len(keys)):
        if keys[index] >= 0:
            slot = _slot(wider, keys[index])
            wider[slot] = keys[index]
            more[slot] = counts[index]
    return wider, more
