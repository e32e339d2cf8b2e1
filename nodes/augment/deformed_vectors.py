"""Arrays of vectors through a deformation: each vector still leads to where its end is shown.

Letters: D spatial axes (2 or 3), Z Y X the voxels of the target array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import DataError
from scalenet_gp.nodes.augment.deformation import Deformation
from scalenet_gp.nodes.augment.deformed_points import target_positions
from scalenet_gp.nodes.augment.samples import Samples

__all__ = ["deform_vectors"]


def deform_vectors(
    data: NDArray[Any], samples: Samples, deformation: Deformation, roi: Roi, voxel_size: Coordinate
) -> NDArray[Any]:
    """Return the target's vectors, (D, Z, Y, X), of the source's dtype.

    A target voxel takes the vector of the nearest source voxel. That vector leads from the source voxel's centre to a
    point; the new one leads from the target voxel's centre to where that point is shown, found by the inverse of the
    map. So it is exact for elastic maps too, however long the vector. A voxel with a vector of 0 has none, and so has
    one whose end is not shown because the map folds there.

    Args:
        data: the source in ``samples.box(False)``, world units, (D, Z, Y, X) in the order of the axes; floats.
        samples: the target's voxels.
        deformation: the map.
        roi: that the target fills, world units.
        voxel_size: of source and target, world units.

    Raises:
        DataError: other than D channels, or values that are not floats.
    """
    dims = roi.dims
    if data.ndim != dims + 1 or len(data) != dims or data.dtype.kind != "f":
        raise DataError(
            f"vectors have {dims} channels, one for each spatial axis, of floats in world units; "
            f"the array has shape {data.shape} and dtype {data.dtype}"
        )
    ends = np.where(data.any(axis=0), data + _centres(samples.box(False), voxel_size), np.nan)
    read = samples.read(ends, False)
    there = ~np.isnan(read[0])
    result = np.zeros(read.shape, data.dtype)
    ways = target_positions(deformation, read[:, there].T) - _centres(roi, voxel_size)[:, there].T
    result[:, there] = np.nan_to_num(ways.T)
    return result


def _centres(roi: Roi, voxel_size: Coordinate) -> NDArray[np.float64]:
    """Return the world position of every voxel's centre, (D, Z, Y, X)."""
    along = [
        begin + (np.arange(shape // size) + 0.5) * size
        for begin, shape, size in zip(roi.begin, roi.shape, voxel_size, strict=True)
    ]
    return np.stack(np.meshgrid(*along, indexing="ij"))
