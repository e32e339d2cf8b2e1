"""Sampling an array along a smooth map: compiled loops that make every position where it is used and store none.

Letters: Z Y X the voxels of the target, U V W those of the source box, C channels, P control points of an axis. Axes go
z, y, x; a two-dimensional array has one voxel in z. Positions are in voxels of the source's lattice, whole numbers at
voxel centres.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scalenet_gp.nodes.compiled import compiled

__all__ = ["MapTables", "extent", "sample_linear", "sample_nearest"]

_ROUNDER = 1.5 * 2.0**24
"""A double of this size holds multiples of 2**-28, so adding and taking it away again rounds to these. That is far
above the rounding errors of the map and far below what matters: a map that keeps the lattice copies voxels instead of
mixing in 1e-13 of a neighbour."""

_SLACK = 1e-6
"""Voxels: above what bounds are off by rounding."""

Floats = NDArray[np.float64]


class MapTables(NamedTuple):
    """A map from target voxels to source positions.

    The position of target voxel (i, j, k) along source axis a is the sum of ``affine_z[a, i] + affine_y[a, j] +
    affine_x[a, k]`` and of a spline: ``coefficients[a]``, weighted along each axis by four basis functions.

    Attributes:
        affine_z, affine_y, affine_x: (3, Z), (3, Y), (3, X).
        coefficients: (3, P, P, P), in voxels.
        basis_z, basis_y, basis_x: the weights of four coefficients for every target voxel, (4, Z), (4, Y), (4, X).
        first_z, first_y: the first of the four, (Z,), (Y,).
        runs_x: the target voxels along x that have the same four: (runs, 3), each begin, end and the first of the four.
    """

    affine_z: Floats
    affine_y: Floats
    affine_x: Floats
    coefficients: Floats
    basis_z: Floats
    basis_y: Floats
    basis_x: Floats
    first_z: NDArray[np.int64]
    first_y: NDArray[np.int64]
    runs_x: NDArray[np.int64]


@compiled
def _plane(tables, i, plane):  # type: ignore[no-untyped-def]
    """The spline's coefficients (3, P, P) for the target plane ``i``."""
    first = tables.first_z[i]
    for a in range(3):
        for q in range(plane.shape[1]):
            for r in range(plane.shape[2]):
                total = 0.0
                for m in range(4):
                    total += tables.basis_z[m, i] * tables.coefficients[a, first + m, q, r]
                plane[a, q, r] = total


@compiled
def _line(tables, j, plane, line):  # type: ignore[no-untyped-def]
    """The spline's coefficients (3, P) for the target row ``j`` of the plane that ``plane`` is for."""
    first, basis_y = tables.first_y[j], tables.basis_y
    for a in range(3):
        for r in range(plane.shape[2]):
            total = 0.0
            for m in range(4):
                total += basis_y[m, j] * plane[a, first + m, r]
            line[a, r] = total


@compiled
def _row(tables, i, j, line, row):  # type: ignore[no-untyped-def]
    """The positions (3, X) of the target row (i, j), which ``line`` is for."""
    basis_x, runs = tables.basis_x, tables.runs_x
    for a in range(3):
        fixed = tables.affine_z[a, i] + tables.affine_y[a, j]
        for run in range(runs.shape[0]):
            # within a run the four coefficients are constants, and indices that begin at zero are not checked for
            # negative ones: so the inner loop becomes vector instructions
            begin, end, c = runs[run, 0], runs[run, 1], runs[run, 2]
            l0, l1, l2, l3 = line[a, c], line[a, c + 1], line[a, c + 2], line[a, c + 3]
            b0, b1, b2, b3 = basis_x[0, begin:end], basis_x[1, begin:end], basis_x[2, begin:end], basis_x[3, begin:end]
            affine, positions = tables.affine_x[a, begin:end], row[a, begin:end]
            for k in range(positions.shape[0]):
                position = fixed + affine[k] + ((b0[k] * l0 + b1[k] * l1) + (b2[k] * l2 + b3[k] * l3))
                positions[k] = (position + _ROUNDER) - _ROUNDER


@compiled
def _scratch(tables):  # type: ignore[no-untyped-def]
    plane = np.empty((3, tables.coefficients.shape[2], tables.coefficients.shape[3]))
    return plane, np.empty((3, plane.shape[2])), np.empty((3, tables.affine_x.shape[1]))


@compiled
def extent(tables, begin, end):  # type: ignore[no-untyped-def]
    """The smallest and the largest position per source axis, two (3,), of the target planes ``begin`` to ``end``.

    Rows whose positions cannot be among them are not looked at: along a row the affine part is extreme at an end, and a
    spline lies between the least and the greatest of its coefficients. The planes at both ends come first, where the
    extremes are if the map does not fold.
    """
    plane, line, row = _scratch(tables)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    last = row.shape[1] - 1
    for place in range(begin, end):
        i = end - 1 if place == begin else place - 1
        _plane(tables, i, plane)
        for j in range(tables.affine_y.shape[1]):
            _line(tables, j, plane, line)
            inside = True
            for a in range(3):
                fixed = tables.affine_z[a, i] + tables.affine_y[a, j]
                ends = tables.affine_x[a, 0], tables.affine_x[a, last]
                inside &= fixed + min(ends) + line[a].min() > low[a] + _SLACK
                inside &= fixed + max(ends) + line[a].max() < high[a] - _SLACK
            if not inside:
                _row(tables, i, j, line, row)
                for a in range(3):
                    low[a], high[a] = min(low[a], row[a].min()), max(high[a], row[a].max())
    return low, high


@compiled
def sample_linear(tables, origin, source, scale, whole, target, begin, end):  # type: ignore[no-untyped-def]
    """Fill the planes ``begin`` to ``end`` of ``target`` (C, Z, Y, X) from ``source`` (C, U, V, W), linearly.

    Args:
        tables: the map, all of whose positions lie between voxel centres of ``source``.
        origin: the position of the first voxel of ``source``, (3,).
        source: what is read.
        scale: what the values are multiplied by, (1,), of the type to compute in.
        whole: round to whole numbers, halves to even.
        target: what is written.
        begin, end: planes.
    """
    plane, line, row = _scratch(tables)
    columns, rows, planes = np.int32(source.shape[3]), np.int32(source.shape[2]), np.int32(source.shape[1])
    flat = source.reshape((source.shape[0], -1))
    count = row.shape[1]
    index, steps = np.empty(count, np.int32), np.empty((3, count), np.int32)
    fraction, corners = np.empty((3, count), scale.dtype), np.empty((8, count), scale.dtype)
    factor, mixed = scale[0], np.empty(count, scale.dtype)
    for i in range(begin, end):
        _plane(tables, i, plane)
        for j in range(tables.affine_y.shape[1]):
            _line(tables, j, plane, line)
            _row(tables, i, j, line, row)
            for k in range(count):
                z, y, x = row[0, k] - origin[0], row[1, k] - origin[1], row[2, k] - origin[2]
                u, v, w = np.int32(z), np.int32(y), np.int32(x)
                index[k] = (u * rows + v) * columns + w
                fraction[0, k], fraction[1, k], fraction[2, k] = z - u, y - v, x - w
                # what lies beyond the last voxel is multiplied by zero
                steps[0, k] = rows * columns if u + 1 < planes else np.int32(0)
                steps[1, k] = columns if v + 1 < rows else np.int32(0)
                steps[2, k] = np.int32(1) if w + 1 < columns else np.int32(0)
            for c in range(flat.shape[0]):
                _corners(flat[c], index, steps, corners)
                _blend(corners, fraction, factor, mixed)
                values = target[c, i, j]
                for k in range(count):
                    values[k] = np.rint(mixed[k]) if whole else mixed[k]


@compiled
def _corners(voxels, index, steps, corners):  # type: ignore[no-untyped-def]
    """Fetch the eight voxels about every position: (8, X), z slowest. Apart from the sums, which become vectors."""
    for k in range(index.shape[0]):
        # unsigned, as numba checks signed indices for negative ones
        near, along_x = np.uint64(index[k]), np.uint64(steps[2, k])
        along_y, far = np.uint64(steps[1, k]), np.uint64(index[k]) + np.uint64(steps[0, k])
        corners[0, k], corners[1, k] = voxels[near], voxels[near + along_x]
        corners[2, k], corners[3, k] = voxels[near + along_y], voxels[near + along_y + along_x]
        corners[4, k], corners[5, k] = voxels[far], voxels[far + along_x]
        corners[6, k], corners[7, k] = voxels[far + along_y], voxels[far + along_y + along_x]


@compiled
def _blend(corners, fraction, factor, mixed):  # type: ignore[no-untyped-def]
    """Mix eight voxels by their distances along each axis, (8, X) to (X,), and multiply them by ``factor``."""
    for k in range(mixed.shape[0]):
        fz, fy, fx = fraction[0, k], fraction[1, k], fraction[2, k]
        a, b, c, d = corners[0, k], corners[2, k], corners[4, k], corners[6, k]
        a += (corners[1, k] - a) * fx
        b += (corners[3, k] - b) * fx
        c += (corners[5, k] - c) * fx
        d += (corners[7, k] - d) * fx
        a += (b - a) * fy
        c += (d - c) * fy
        mixed[k] = (a + (c - a) * fz) * factor


@compiled
def sample_nearest(tables, origin, source, target, begin, end):  # type: ignore[no-untyped-def]
    """As :func:`sample_linear`, but the nearest voxel as it is, the upper one of two equally near."""
    plane, line, row = _scratch(tables)
    columns, rows = source.shape[3], source.shape[2]
    flat = source.reshape((source.shape[0], -1))
    count = row.shape[1]
    index = np.empty(count, np.int64)
    for i in range(begin, end):
        _plane(tables, i, plane)
        for j in range(tables.affine_y.shape[1]):
            _line(tables, j, plane, line)
            _row(tables, i, j, line, row)
            for k in range(count):
                # a position in the box is at least -1/2, so that the whole part is the floor
                u = np.int32(row[0, k] - origin[0] + 0.5)
                v = np.int32(row[1, k] - origin[1] + 0.5)
                w = np.int32(row[2, k] - origin[2] + 0.5)
                index[k] = (u * rows + v) * columns + w
            for c in range(flat.shape[0]):
                voxels, values = flat[c], target[c, i, j]
                for k in range(count):
                    values[k] = voxels[np.uint64(index[k])]
