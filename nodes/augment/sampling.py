"""Sampling an array along a smooth map: compiled loops that make every position where it is used and store none.

Letters: Z Y X the voxels of the target, U V W those of the source box, C channels, P control points of an axis. Axes go
z, y, x; a two-dimensional array has one voxel in z. Positions are in voxels of the source's lattice, whole numbers at
voxel centres.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scalenet_gp.kernels import numba_jit

__all__ = ["MapTables", "byte_pairs", "extent", "sample_linear", "sample_nearest"]

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
    affine_x[a, k]`` and of a spline: ``coefficients`` weighted by basis functions along each axis. Along z and y, four
    of them are not zero anywhere. Along x all are kept, with their zeros, and an even number of them: sums over whole
    rows become vector instructions, which short ones do not.

    Attributes:
        affine_z, affine_y, affine_x: (3, Z), (3, Y), (3, X).
        coefficients: in voxels, (P, P, 3 P): along z, along y, and for each source axis along x.
        basis_z, basis_y: the weights of four coefficients for every target voxel, (4, Z), (4, Y).
        first_z, first_y: the first of the four, (Z,), (Y,).
        basis_x: the weights of all coefficients for every target voxel, (P, X), P even and at least 4.
    """

    affine_z: Floats
    affine_y: Floats
    affine_x: Floats
    coefficients: Floats
    basis_z: Floats
    basis_y: Floats
    first_z: NDArray[np.int64]
    first_y: NDArray[np.int64]
    basis_x: Floats


@numba_jit
def _mix(weights, column, values, first, result):  # type: ignore[no-untyped-def]
    """Weight the four rows of ``values`` (P, n) from ``first`` on by a column of ``weights`` (4, n)."""
    w0, w1, w2, w3 = weights[0, column], weights[1, column], weights[2, column], weights[3, column]
    v0, v1, v2, v3 = values[first], values[first + 1], values[first + 2], values[first + 3]
    for n in range(result.shape[0]):
        result[n] = (w0 * v0[n] + w1 * v1[n]) + (w2 * v2[n] + w3 * v3[n])


@numba_jit
def _along(fixed, affine, basis, coefficients, positions):  # type: ignore[no-untyped-def]
    """The positions (X,) of a target row along one source axis: two coefficients at a time, for all voxels at once."""
    last = coefficients.shape[0] - 2
    c0, c1, b0, b1 = coefficients[0], coefficients[1], basis[0], basis[1]
    for k in range(positions.shape[0]):
        positions[k] = fixed + affine[k] + (b0[k] * c0 + b1[k] * c1)
    for p in range(2, last, 2):
        c0, c1, b0, b1 = coefficients[p], coefficients[p + 1], basis[p], basis[p + 1]
        for k in range(positions.shape[0]):
            positions[k] += b0[k] * c0 + b1[k] * c1
    c0, c1, b0, b1 = coefficients[last], coefficients[last + 1], basis[last], basis[last + 1]
    for k in range(positions.shape[0]):
        positions[k] = ((positions[k] + (b0[k] * c0 + b1[k] * c1)) + _ROUNDER) - _ROUNDER


@numba_jit
def _row(tables, i, j, line, row):  # type: ignore[no-untyped-def]
    """The positions (3, X) of the target row (i, j), whose coefficients along x are ``line`` (3, P)."""
    for a in range(3):
        fixed = tables.affine_z[a, i] + tables.affine_y[a, j]
        _along(fixed, tables.affine_x[a], tables.basis_x, line[a], row[a])


@numba_jit
def _scratch(tables):  # type: ignore[no-untyped-def]
    """Space for the coefficients of a plane (P, 3 P) and of a row (3, P), and for its positions (3, X)."""
    plane = np.empty(tables.coefficients.shape[1:])
    return plane, np.empty((3, tables.basis_x.shape[0])), np.empty((3, tables.affine_x.shape[1]))


@numba_jit
def extent(tables, begin, end, least, greatest):  # type: ignore[no-untyped-def]
    """The smallest and the largest position per source axis, two (3,), of the target planes ``begin`` to ``end``.

    Rows whose positions cannot be among them are not looked at: along a row the affine part is extreme at an end, and a
    spline lies between the least and the greatest of its coefficients.

    Args:
        tables: the map.
        begin, end: planes.
        least, greatest: positions that are known from other planes, (3,), which save looking at some of these.
    """
    plane, line, row = _scratch(tables)
    coefficients = tables.coefficients.reshape((tables.coefficients.shape[0], -1))
    flat_plane, flat_line = plane.reshape(-1), line.reshape(-1)
    low, high = least.copy(), greatest.copy()
    lows, highs = np.full(row.shape, np.inf), np.full(row.shape, -np.inf)
    last = row.shape[1] - 1
    for i in range(begin, end):
        _mix(tables.basis_z, i, coefficients, tables.first_z[i], flat_plane)
        for j in range(tables.affine_y.shape[1]):
            _mix(tables.basis_y, j, plane, tables.first_y[j], flat_line)
            for a in range(3):
                fixed, affine = tables.affine_z[a, i] + tables.affine_y[a, j], tables.affine_x[a]
                least_spline, greatest_spline = _range(line[a])
                below = fixed + min(affine[0], affine[last]) + least_spline - _SLACK
                above = fixed + max(affine[0], affine[last]) + greatest_spline + _SLACK
                if below < low[a] or above > high[a]:
                    _along(fixed, affine, tables.basis_x, line[a], row[a])
                    _widen(row[a], lows[a], highs[a])
        for a in range(3):
            low[a], high[a] = min(low[a], _range(lows[a])[0]), max(high[a], _range(highs[a])[1])
    return low, high


@numba_jit
def _range(values):  # type: ignore[no-untyped-def]
    """The least and the greatest, without what numpy's own do about values that are no numbers."""
    least = greatest = values[0]
    for n in range(1, values.shape[0]):
        least, greatest = min(least, values[n]), max(greatest, values[n])
    return least, greatest


@numba_jit
def _widen(positions, lows, highs):  # type: ignore[no-untyped-def]
    """Keep the least and the greatest of every column: whole rows, as vector instructions do."""
    for k in range(positions.shape[0]):
        lows[k], highs[k] = min(lows[k], positions[k]), max(highs[k], positions[k])


def byte_pairs(source: NDArray[np.uint8]) -> NDArray[np.uint16] | None:
    """Every voxel of (C, U, V, W) together with the next one in memory, as one number whose lower half is the first.

    (C, U V W - 1), a view. None where there are no two voxels along x.
    """
    channels, voxels = len(source), source[0].size
    if source.shape[-1] < 2:
        return None
    return np.ndarray((channels, voxels - 1), np.uint16, source, strides=(voxels, 1))


@numba_jit
def sample_linear(tables, origin, source, pairs, scale, whole, target, begin, end):  # type: ignore[no-untyped-def]
    """Fill the planes ``begin`` to ``end`` of ``target`` (C, Z, Y, X) from ``source`` (C, U, V, W), linearly.

    Args:
        tables: the map, all of whose positions lie between voxel centres of ``source``.
        origin: the position of the first voxel of ``source``, (3,).
        source: the array that is read.
        pairs: of a source of bytes, see :func:`byte_pairs`; else None.
        scale: what the values are multiplied by, (1,), of the type to compute in.
        whole: round to whole numbers, halves to even.
        target: the array that is written.
        begin, end: planes.
    """
    plane, line, row = _scratch(tables)
    coefficients = tables.coefficients.reshape((tables.coefficients.shape[0], -1))
    flat_plane, flat_line = plane.reshape(-1), line.reshape(-1)
    # as floats, in which products of these sizes are exact, and vectors faster
    planes, rows, columns = float(source.shape[1]), float(source.shape[2]), float(source.shape[3])
    to_next_plane, to_next_row = np.int32(source.shape[2] * source.shape[3]), np.int32(source.shape[3])
    flat = source.reshape((source.shape[0], -1))
    # a pair has to begin before the last voxel, whose fraction then is one
    farthest = columns - 1 if pairs is None else columns - 2
    count = row.shape[1]
    index, steps = np.empty(count, np.int32), np.empty((3, count), np.int32)
    fraction, corners = np.empty((3, count), scale.dtype), np.empty((8, count), scale.dtype)
    fetched = np.empty((4, count), np.uint16)
    factor, mixed = scale[0], np.empty(count, scale.dtype)
    for i in range(begin, end):
        _mix(tables.basis_z, i, coefficients, tables.first_z[i], flat_plane)
        for j in range(tables.affine_y.shape[1]):
            _mix(tables.basis_y, j, plane, tables.first_y[j], flat_line)
            _row(tables, i, j, line, row)
            for k in range(count):
                z, y, x = row[0, k] - origin[0], row[1, k] - origin[1], row[2, k] - origin[2]
                u, v, w = np.floor(z), np.floor(y), min(np.floor(x), farthest)
                index[k] = np.int32((u * rows + v) * columns + w)
                fraction[0, k], fraction[1, k], fraction[2, k] = z - u, y - v, x - w
                # what lies beyond the last voxel is multiplied by zero
                steps[0, k] = to_next_plane if u + 1 < planes else np.int32(0)
                steps[1, k] = to_next_row if v + 1 < rows else np.int32(0)
                steps[2, k] = np.int32(1) if w + 1 < columns else np.int32(0)
            for c in range(flat.shape[0]):
                if pairs is None:
                    _corners(flat[c], index, steps, corners)
                else:
                    _corners_of_pairs(pairs[c], index, steps, fetched, corners)
                _blend(corners, fraction, factor, mixed)
                values = target[c, i, j]
                for k in range(count):
                    values[k] = np.rint(mixed[k]) if whole else mixed[k]


@numba_jit
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


@numba_jit
def _corners_of_pairs(pairs, index, steps, fetched, corners):  # type: ignore[no-untyped-def]
    """Do the same as :func:`_corners` for bytes: fetch half as many, and take them apart as vectors."""
    for k in range(index.shape[0]):
        near = np.uint64(index[k])
        along_y, far = np.uint64(steps[1, k]), near + np.uint64(steps[0, k])
        fetched[0, k], fetched[1, k] = pairs[near], pairs[near + along_y]
        fetched[2, k], fetched[3, k] = pairs[far], pairs[far + along_y]
    for n in range(4):
        first, second, both = corners[2 * n], corners[2 * n + 1], fetched[n]
        for k in range(both.shape[0]):
            first[k], second[k] = both[k] & 255, both[k] >> 8


@numba_jit
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


@numba_jit
def sample_nearest(tables, origin, source, target, begin, end):  # type: ignore[no-untyped-def]
    """Do the same as :func:`sample_linear` with the nearest voxel as it is; of two equally near, the upper one."""
    plane, line, row = _scratch(tables)
    coefficients = tables.coefficients.reshape((tables.coefficients.shape[0], -1))
    flat_plane, flat_line = plane.reshape(-1), line.reshape(-1)
    columns, rows = source.shape[3], source.shape[2]
    flat = source.reshape((source.shape[0], -1))
    count = row.shape[1]
    index = np.empty(count, np.int64)
    for i in range(begin, end):
        _mix(tables.basis_z, i, coefficients, tables.first_z[i], flat_plane)
        for j in range(tables.affine_y.shape[1]):
            _mix(tables.basis_y, j, plane, tables.first_y[j], flat_line)
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
