"""Lengths, areas and axes of objects, in nm, from their measures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scalenet_gp.segmentation.measures import PARTS
from scalenet_gp.segmentation.surfaces import crossing_areas, face_areas

__all__ = ["border_faces", "boundary_faces", "mean_values", "principal_axes", "surface_areas"]


def surface_areas(crossings: np.ndarray, voxel_size: Sequence[float]) -> np.ndarray:
    """Return the area of surfaces, nm², by Crofton's formula: see :func:`.crossing_areas`.

    Args:
        crossings: of objects or contacts, (row, step).
        voxel_size: nm, (z, y, x) or (y, x).

    Example:
        >>> from scalenet_gp.segmentation import measure_objects
        >>> z, y, x = np.ogrid[-20:21, -20:21, -20:21]
        >>> rows, _ = measure_objects(z**2 + y**2 + x**2 <= 16.5**2)
        >>> sphere = 4 * np.pi * (4 * 16.5) ** 2
        >>> (surface_areas(rows["crossings"], (4, 4, 4)) / sphere).round(2)
        array([1.])
        >>> (boundary_faces(rows["crossings"], (4, 4, 4)) / sphere).round(2)
        array([1.51])
    """
    areas: np.ndarray = crossings @ crossing_areas(voxel_size)
    return areas


def boundary_faces(crossings: np.ndarray, voxel_size: Sequence[float]) -> np.ndarray:
    """Return the area of the voxel faces that a surface or contact consists of, nm². Arguments as there."""
    areas: np.ndarray = crossings[:, : len(voxel_size)] @ face_areas(voxel_size)
    return areas


def border_faces(cut: np.ndarray, voxel_size: Sequence[float]) -> np.ndarray:
    """Return the area in which objects are cut by the border of the volume, nm².

    Args:
        cut: faces at the border, (object, axis).
        voxel_size: nm.
    """
    areas: np.ndarray = cut @ face_areas(voxel_size)
    return areas


def mean_values(rows: np.ndarray, index: int) -> np.ndarray:
    """Return the mean of a value over the voxels of each object.

    Args:
        rows: of :func:`.merge_measures`.
        index: of the value.
    """
    means: np.ndarray = (rows["whole"][:, index] + rows["parts"][:, index] / PARTS) / rows["voxels"]
    return means


def principal_axes(rows: np.ndarray, voxel_size: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the axes of the ellipsoids with the second moments of objects, from the longest to the shortest.

    Voxels count as boxes, not as points, so that an object of one voxel has lengths, too.

    Args:
        rows: of :func:`.merge_measures`.
        voxel_size: nm, (z, y, x) or (y, x).

    Returns:
        The lengths of whole axes, nm, (object, axis), and their directions, (object, axis, component), unit vectors.
        The largest component of a direction is positive.

    Example:
        >>> from scalenet_gp.segmentation import merge_measures, measure_objects
        >>> z, y, x = np.ogrid[-20:21, -20:21, -20:21]
        >>> rows, _ = measure_objects((z / 18) ** 2 + (y / 12) ** 2 + (x / 6) ** 2 <= 1)
        >>> lengths, directions = principal_axes(merge_measures(rows), (2, 1, 1))
        >>> lengths.round().tolist(), directions[0, 0].round(3).tolist()
        ([[72.0, 24.0, 12.0]], [1.0, 0.0, 0.0])
    """
    size = np.array([*map(float, voxel_size)])
    dims = len(size)
    means = rows["places"] / rows["voxels"][:, None]
    moments = np.empty((len(rows), dims, dims))
    products = rows["products"] + rows["wraps"] * 2.0**64
    pairs = [(one, other) for one in range(dims) for other in range(one, dims)]
    for number, (one, other) in enumerate(pairs):
        moment = products[:, number] / rows["voxels"] - means[:, one] * means[:, other]
        moment += (one == other) / 12
        moments[:, one, other] = moments[:, other, one] = moment * size[one] * size[other]
    values, vectors = np.linalg.eigh(moments)
    lengths = 2 * np.sqrt((dims + 2) * np.maximum(values[:, ::-1], 0))
    directions = np.swapaxes(vectors[:, :, ::-1], 1, 2)
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=2)[..., None], axis=2)
    return lengths, directions * np.where(largest < 0, -1.0, 1.0) + 0.0
