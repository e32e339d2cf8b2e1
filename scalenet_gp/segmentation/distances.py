"""Distances to the boundary of a mask, as whole numbers: the same however a volume is divided into blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

__all__ = ["common_step", "squared_distances"]


def common_step(voxel_size: Sequence[Fraction]) -> Fraction:
    """Return the largest length of which every voxel size is a whole number: 1/5 of 50 × 4.6 × 4.6, and 8 of 8 × 8 × 8.

    Example:
        >>> common_step((Fraction(50), Fraction("4.6"), Fraction("4.6")))
        Fraction(1, 5)
    """
    scale = math.lcm(*(size.denominator for size in voxel_size))
    return Fraction(math.gcd(*(int(size * scale) for size in voxel_size)), scale)


def squared_distances(mask: np.ndarray, voxel_size: Sequence[Fraction]) -> np.ndarray:
    """Return the squared distances of voxels to the nearest one that is not in the mask.

    They count steps, see :func:`common_step`. Voxels beyond the array count as in the mask. By the package edt, in
    float32: whole numbers, exact up to 2**24.

    Args:
        mask: boolean, (z, y, x) or (y, x).
        voxel_size: nm, per axis.
    """
    import edt  # slow to import

    step = common_step(voxel_size)
    lengths = tuple(float(size / step) for size in voxel_size)
    squared: np.ndarray = edt.edtsq(np.ascontiguousarray(mask).view(np.uint8), anisotropy=lengths, black_border=False)
    return squared
