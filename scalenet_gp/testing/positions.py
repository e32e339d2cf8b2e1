"""Arrays that hold the world position of each voxel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

__all__ = ["voxel_centers"]


def voxel_centers(roi: Roi, voxel_size: Sequence[int]) -> NDArray[np.float64]:
    """Return the world coordinates of the voxel centers in ``roi``: (D, Z, Y, X) float64, an axis per entry of D.

    Example:
        >>> from funlib.geometry import Roi
        >>> voxel_centers(Roi((0, 8), (4, 8)), (4, 4))[1]
        array([[10., 14.]])
    """
    axes = [
        begin + (np.arange(length // size) + 0.5) * size
        for begin, length, size in zip(roi.begin, roi.shape, voxel_size, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"))
