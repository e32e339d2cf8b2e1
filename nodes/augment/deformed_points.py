"""Points through a deformation: from target to source, and back by the inverse of the map.

Letters: N points, D spatial axes (2 or 3).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.nodes.augment.deformation import Deformation, ElasticField

__all__ = ["source_box", "source_positions", "target_positions"]

_STEPS = 60
"""Newton steps, at most; a few are enough unless the map nearly folds."""

_TOLERANCE = 1e-4
"""World units by which a point that is found may miss its source."""


def source_positions(deformation: Deformation, targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the source positions of target positions, (N, D), world units.

    Beyond the control points of the elastic part, its displacement is that of the nearest point among them.
    """
    sources: NDArray[np.float64] = _affine(deformation, targets)
    return sources if deformation.elastic is None else sources + _displacements(deformation.elastic, targets)


def target_positions(deformation: Deformation, sources: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the target positions that are read from source positions, (N, D), world units: the inverse of the map.

    They are found by Newton's method to a ten-thousandth of a world unit. A source without a target, as where the map
    folds, gives NaN. Of several targets, one is found.
    """
    matrix, elastic = np.array(deformation.matrix), deformation.elastic
    inverse = np.linalg.inv(matrix)
    start = (sources - np.array(deformation.source_centre)) @ inverse.T + np.array(deformation.target_centre)
    if elastic is None:
        return start
    targets, wrong = start, np.arange(len(start))
    spacing = np.array(elastic.spacing, float)
    for _ in range(_STEPS):
        off = source_positions(deformation, targets[wrong]) - sources[wrong]
        far = np.abs(off).max(axis=1, initial=0) > _TOLERANCE
        wrong, off = wrong[far], off[far]
        if not len(wrong):
            return targets
        step = _solve(_jacobians(deformation, targets[wrong]), off)
        # a step longer than half the distance between control points says nothing about where it leads
        targets[wrong] -= np.clip(step, -spacing / 2, spacing / 2)
    off = np.abs(source_positions(deformation, targets[wrong]) - sources[wrong]).max(axis=1, initial=0)
    targets[wrong[off > _TOLERANCE]] = np.nan
    return targets


def source_box(deformation: Deformation, roi: Roi) -> Roi:
    """Return a source ROI that holds the source of every point in a target ROI: the affine box, and room for the rest.

    A spline lies between the least and the greatest of its coefficients, which give the room.
    """
    corners = np.stack(np.meshgrid(*zip(roi.begin, roi.end, strict=True), indexing="ij"), axis=-1).astype(float)
    sources = _affine(deformation, corners.reshape(-1, roi.dims))
    low, high = sources.min(axis=0), sources.max(axis=0)
    if deformation.elastic is not None:
        coefficients = deformation.elastic.coefficients().reshape(roi.dims, -1)
        low, high = low + coefficients.min(axis=1), high + coefficients.max(axis=1)
    begin = Coordinate(math.floor(length) for length in low)
    return Roi(begin, Coordinate(math.ceil(length) + 1 for length in high) - begin)


def _affine(deformation: Deformation, targets: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.array(deformation.matrix)
    moved: NDArray[np.float64] = (targets - np.array(deformation.target_centre)) @ matrix.T
    return moved + np.array(deformation.source_centre)


def _displacements(field: ElasticField, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the displacement at every point, (N, D)."""
    count, dims = points.shape
    if not count:
        return np.zeros_like(points)
    last = np.array(field.begin) + (np.array(field.shape) - 1) * np.array(field.spacing)
    within = np.clip(points, field.begin, last)
    # the weights of the splines that are not zero at a point, and their numbers: each (N, 4, 4, 4) after broadcasting
    weights: NDArray[np.float64] = np.ones((count, *(1,) * dims))
    index: list[Any] = [slice(None)]
    for axis in range(dims):
        shape = (count, *(4 if other == axis else 1 for other in range(dims)))
        order = np.argsort(within[:, axis], kind="stable")  # the field takes ascending positions
        basis, first = field.basis(axis, within[order, axis])
        back = np.argsort(order, kind="stable")
        weights = weights * basis.T[back].reshape(shape)
        index.append((first[back][:, None] + np.arange(4)).reshape(shape))
    near = field.coefficients()[tuple(index)]  # (D, N, 4, 4, 4)
    result: NDArray[np.float64] = (near * weights).reshape(dims, count, -1).sum(axis=-1)
    return result.T


def _jacobians(deformation: Deformation, targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the change of the source along each axis of the target, by differences, (N, D, D)."""
    elastic = deformation.elastic
    dims = targets.shape[1]
    columns = []
    for axis in range(dims):
        step = 1.0 if elastic is None else elastic.spacing[axis] * 1e-4
        ahead, behind = targets.copy(), targets.copy()
        ahead[:, axis] += step
        behind[:, axis] -= step
        columns.append((source_positions(deformation, ahead) - source_positions(deformation, behind)) / (2 * step))
    return np.stack(columns, axis=-1)


def _solve(matrices: NDArray[np.float64], off: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the steps (N, D), of least squares where a matrix has no inverse."""
    steps: NDArray[np.float64] = (np.linalg.pinv(matrices) @ off[:, :, None])[:, :, 0]
    return steps
