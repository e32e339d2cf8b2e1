"""Coarser voxels from blocks of finer ones: the mean of raw values, the majority of labels or of what is known.

Arrays are (..., z, y, x) or (..., y, x): ``factor`` counts the fine voxels per coarse voxel of the trailing axes, and
the leading axes are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from scalenet_gp.errors import LatticeError

__all__ = ["block_majority", "block_mean", "known_majority", "round_to_type"]


def block_mean(data: np.ndarray, factor: Sequence[int]) -> np.ndarray:
    """Return the mean of every block, in the dtype of ``data``: integers are rounded, halves to even.

    Computed in float64, or in integers that hold the sums: exact for integers of up to 32 bits.

    Raises:
        LatticeError: the trailing axes are not whole blocks.
    """
    _check(data, factor)
    size = math.prod(factor)
    if size == 1:
        return data
    small = data.dtype.kind in "biu" and data.dtype.itemsize <= 2 and size <= 2**15
    add = partial(np.add, dtype=np.int32 if small else np.float64)
    total = data
    for axis, length in enumerate(factor, data.ndim - len(factor)):  # slices, as they are added several times as fast
        total = reduce(add, (total[(slice(None),) * axis + (slice(i, None, length),)] for i in range(length)))
    return round_to_type(total / size, data.dtype)


def round_to_type(means: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Convert means from float64 to ``dtype``: integers are rounded, halves to even, and kept in range."""
    if dtype.kind in "fc":
        return means.astype(dtype)
    whole = np.rint(means)
    if dtype.kind == "b" or dtype.itemsize < 8:
        return whole.astype(dtype)
    # the largest integer of 64 bits is rounded up in float64, out of the range
    largest = np.iinfo(dtype).max
    below = np.nextafter(float(largest), 0)
    served = np.where(whole > below, dtype.type(largest), np.minimum(whole, below).astype(dtype))
    return served.astype(dtype, copy=False)


def block_majority(data: np.ndarray, factor: Sequence[int]) -> np.ndarray:
    """Return the most frequent value of every block, the smallest of several: as :func:`scipy.stats.mode`.

    Raises:
        LatticeError: the trailing axes are not whole blocks.
    """
    blocks = _blocks(data, factor)
    if blocks.shape[-1] == 1:
        return data
    blocks = np.sort(blocks, axis=-1)
    value = blocks[..., 0].copy()
    run = np.ones(value.shape, dtype=np.intp)
    longest = run.copy()
    # equal labels are neighbours now, so the longest run wins, and the first of equals is the smallest
    for i in range(1, blocks.shape[-1]):
        run = np.where(blocks[..., i] == blocks[..., i - 1], run + 1, 1)
        longer = run > longest
        value[longer] = blocks[..., i][longer]
        longest[longer] = run[longer]
    return value


def known_majority(present: np.ndarray, known: np.ndarray, factor: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return two uint8 arrays of zeros and ones: something is present in a block, and that is known.

    A block is known if at least half of its voxels are. It is present if it is known and more than half of its known
    voxels are present: a tie is absent.

    Args:
        present: boolean; nothing is present where it is not known.
        known: boolean, of the same shape.
        factor: fine voxels per block.

    Raises:
        LatticeError: the trailing axes are not whole blocks.
    """
    presents, knowns = _blocks(present, factor), _blocks(known, factor)
    size = knowns.shape[-1]
    if size == 1:
        return present.astype(np.uint8), known.astype(np.uint8)
    counted = np.count_nonzero(knowns, axis=-1)
    decided = 2 * counted >= size
    majority = decided & (2 * np.count_nonzero(presents, axis=-1) > counted)
    return majority.astype(np.uint8), decided.astype(np.uint8)


def _blocks(data: np.ndarray, factor: Sequence[int]) -> np.ndarray:
    """(..., z, y, x) to (..., z / fz, y / fy, x / fx, voxels of a block)."""
    _check(data, factor)
    dims = len(factor)
    leading, spatial = data.shape[: data.ndim - dims], data.shape[data.ndim - dims :]
    split = [length for n, f in zip(spatial, factor, strict=True) for length in (n // f, f)]
    outer = [len(leading) + 2 * axis for axis in range(dims)]
    inner = [axis + 1 for axis in outer]
    blocks = data.reshape(*leading, *split).transpose(*range(len(leading)), *outer, *inner)
    return blocks.reshape(*blocks.shape[: data.ndim], math.prod(factor))


def _check(data: np.ndarray, factor: Sequence[int]) -> None:
    spatial = data.shape[data.ndim - len(factor) :]
    if len(spatial) != len(factor) or any(n % f for n, f in zip(spatial, factor, strict=True)):
        raise LatticeError(f"an array of shape {data.shape} is not made of whole blocks of {tuple(factor)} voxels")
