"""Local shape descriptors of arrays: where, how large and how oriented the part of an object about each voxel is.

Every object is described in its own bounding box, by moments about each voxel: sums over the voxels of the object
nearby, weighted by a Gaussian and by powers of the distance along each axis. They are separable. Distances count from
the voxel itself, so that variances lose no digits to the position in the volume. A sum adds up its terms in one order,
whatever the box: parts of a volume agree with the whole to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from scalenet_gp.kernels import numba_jit

__all__ = ["descriptor_names", "descriptor_radius", "local_shape_descriptors"]

_TRUNCATE = 3
"""Standard deviations at which the Gaussian ends."""

_FLOOR = 1e-3
"""The smallest variance, so that no correlation is divided by zero."""

_EDGE = 128
"""Voxels along an axis that are described together, which bounds the memory of large objects."""

_OF_PLANES = (1, 2, 4, 5, 8, 9)
"""The descriptors of three axes that are left of a single plane."""


def descriptor_names(dims: int) -> tuple[str, ...]:
    """Return the names of the channels.

    Args:
        dims: the number of spatial axes, 3 or 2.

    Example:
        >>> descriptor_names(2)
        ('offset y', 'offset x', 'variance y', 'variance x', 'correlation yx', 'size')
    """
    axes = "zyx"[-dims:]
    pairs = [one + other for number, one in enumerate(axes) for other in axes[number + 1 :]]
    return (
        *(f"offset {axis}" for axis in axes),
        *(f"variance {axis}" for axis in axes),
        *(f"correlation {pair}" for pair in pairs),
        "size",
    )


def descriptor_radius(voxel_size: Sequence[float], sigma: Sequence[float], downsample: int = 1) -> tuple[int, ...]:
    """Return how many (downsampled) voxels a descriptor reaches on every side: 3 standard deviations, rounded.

    Example:
        >>> descriptor_radius((40, 8, 8), (80, 80, 80))
        (6, 30, 30)
    """
    return tuple(
        int(_TRUNCATE * (width / (size * downsample)) + 0.5) for size, width in zip(voxel_size, sigma, strict=True)
    )


def local_shape_descriptors(
    labels: np.ndarray,
    voxel_size: Sequence[float],
    sigma: Sequence[float],
    inner: tuple[slice, ...] | None = None,
    downsample: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the descriptors of every voxel of an object.

    The voxels of the same label about a voxel, weighted by a Gaussian, have a mean position, variances and
    correlations. The channels, with the axes in the order of the array, are for three axes:

    - 0-2: the mean position relative to the voxel, in standard deviations of the Gaussian, times ½, plus ½;
    - 3-5: the variances, in squares of the standard deviation;
    - 6-8: the correlations zy, zx and yx, times ½, plus ½;
    - 9: the sum of the weights, the share of the Gaussian that the object fills.

    Of two axes there are 2, 2, 1 and 1. Values are clipped to [0, 1]. Beyond the array, nothing belongs to an object.

    Source: Sheridan et al., "Local shape descriptors for neuron segmentation", Nature Methods 20 (2023); the values are
    those of lsd-lite.

    Args:
        labels: whole numbers, 0 for the background, (z, y, x) or (y, x).
        voxel_size: per axis.
        sigma: the standard deviation of the Gaussian per axis, in the unit of ``voxel_size``. Variances below 0.001
            in its square count as that.
        inner: the part of the array to describe; all of it if None.
        downsample: describe every so manyth voxel along each axis, and give its descriptors to all voxels of its label
            up to the next one.

    Returns:
        Descriptors, float32 (channel, z, y, x), 0 in the background; and where there are any, boolean (z, y, x). With
        ``downsample``, a small object that has none of the voxels that are looked at is not described.

    Example:
        >>> labels = np.zeros((1, 9), np.uint8)
        >>> labels[0, 2:7] = 1
        >>> descriptors, described = local_shape_descriptors(labels, (8, 8), (16, 16))
        >>> [f"{value:.2f}" for value in descriptors[1, 0]]  # the mean offset along x
        ['0.00', '0.00', '0.81', '0.65', '0.50', '0.35', '0.19', '0.00', '0.00']
    """
    from fastremap import renumber  # slow to import
    from scipy.ndimage import find_objects

    dims, factor = labels.ndim, downsample
    flat = (1,) * (3 - dims)
    numbered = renumber(np.ascontiguousarray(labels), preserve_zero=True)[0].astype(np.uint32, copy=False)
    fine = numbered.reshape((*flat, *labels.shape))
    steps = (*flat, *(factor,) * dims)
    coarse = np.ascontiguousarray(fine[tuple(slice(None, None, step) for step in steps)])
    ends = [along.indices(n)[:2] for along, n in zip(inner or (slice(None),) * dims, labels.shape, strict=True)]
    part = np.array([*((0, 1) for _ in flat), *ends])
    radius = np.array([*(0 for _ in flat), *descriptor_radius(voxel_size, sigma, factor)])
    sizes, widths = (np.array([*flat, *map(float, of)]) for of in (voxel_size, sigma))
    # a voxel that is not looked at may be far from those of its object that are: its variances are then differences of
    # large moments, which needs double precision; otherwise all are right to 1e-6 in single precision
    weights = _weights(radius, sizes * steps, widths, np.float32 if factor == 1 else np.float64)
    descriptors = np.zeros((10, *(part[:, 1] - part[:, 0])), np.float32)
    described = np.zeros(descriptors.shape[1:], bool)
    described_there = described.view(np.uint8)
    places = find_objects(coarse)
    asked = find_objects(fine[tuple(slice(*ends) for ends in part)])
    for number, wanted in enumerate(asked, start=1):
        place = places[number - 1] if number <= len(places) else None
        if wanted is None or place is None:
            continue
        there = np.array([(along.start, along.stop) for along in place])
        begin, end = (np.array([getattr(along, at) for along in wanted]) + part[:, 0] for at in ("start", "stop"))
        for tile in _tiles(begin // steps, -(-end // steps)):
            near = np.stack([tile[:, 0] - radius, tile[:, 1] + radius], axis=1)
            box = np.stack([np.maximum(near[:, 0], there[:, 0]), np.minimum(near[:, 1], there[:, 1])], axis=1)
            if (box[:, 0] < box[:, 1]).all():
                arrays = fine, coarse, descriptors, described_there
                _describe(*arrays, number, box, tile, part[:, 0], np.array(steps), radius, weights, widths)
    if dims == 2:
        return descriptors[list(_OF_PLANES), 0], described[0]
    return descriptors, described


def _weights(radius: np.ndarray, sizes: np.ndarray, widths: np.ndarray, dtype: type) -> np.ndarray:
    """Return the Gaussian at every distance, times the distance to the power of 0, 1 and 2: (axis, power, distance)."""
    weights = np.zeros((3, 3, radius.max() + 1), dtype)
    for axis, (reach, size, width) in enumerate(zip(radius, sizes, widths, strict=True)):
        distance = np.arange(-reach, reach + 1) * size
        gauss = np.exp(-0.5 * (distance / width) ** 2)
        gauss /= gauss.sum()
        for power in range(3):
            weights[axis, power, : reach + 1] = (gauss * distance**power)[reach:]
    return weights


def _tiles(begin: np.ndarray, end: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the ends (axis, 2) of parts of a box."""
    along = [range(b, e, _EDGE) for b, e in zip(begin.tolist(), end.tolist(), strict=True)]
    for corner in product(*along):
        yield np.stack([corner, np.minimum(np.array(corner) + _EDGE, end)], axis=1)


@numba_jit
def _describe(  # type: ignore[no-untyped-def]
    fine, coarse, descriptors, described, number, box, tile, origin, steps, radius, weights, widths
):
    """Describe the voxels of one object in a part of its bounding box.

    Args:
        fine: numbers of objects, (Z, Y, X).
        coarse: every so manyth of them.
        descriptors: (10, z, y, x), to fill.
        described: (z, y, x), to fill.
        number: of the object.
        box: the ends of the coarse voxels of the object that matter, (3, 2).
        tile: the ends of the coarse voxels to describe, (3, 2).
        origin: the fine voxel at the corner of ``descriptors``.
        steps: fine voxels per coarse one.
        radius: coarse voxels.
        weights: (axis, power, distance); sums have its precision.
        widths: the standard deviation per axis.
    """
    deep, high, wide = box[0, 1] - box[0, 0], box[1, 1] - box[1, 0], tile[2, 1] - tile[2, 0]
    rows = tile[1, 1] - tile[1, 0]
    # the moments along x of one plane, and along y and x of all; the last row and the last plane stay empty
    of_rows, row_filled = np.zeros((high + 1, 3, wide), weights.dtype), np.zeros(high + 1, np.bool_)
    of_planes = np.zeros((rows, deep + 1, 6, wide), weights.dtype)
    filled = np.zeros((rows, deep + 1), np.bool_)
    line = np.zeros(wide + 2 * radius[2], weights.dtype)
    for z in range(deep):
        for y in range(high):
            row_filled[y] = _moments_along_x(
                coarse[box[0, 0] + z, box[1, 0] + y],
                number,
                box[2],
                tile[2, 0],
                radius[2],
                weights[2],
                line,
                of_rows[y],
            )
        for y in range(rows):
            filled[y, z] = _moments_along_y(
                of_rows, row_filled, y + tile[1, 0] - box[1, 0], radius[1], weights[1], of_planes[y, z]
            )
    sums = np.empty((10, wide), weights.dtype)
    for y in range(tile[1, 0], tile[1, 1]):  # outside, as the moments of one row of all planes stay in the cache
        for z in range(tile[0, 0], tile[0, 1]):
            first, last = _span(fine, number, z, y, tile[2], steps, origin, described)
            if first < last:
                _moments_along_z(
                    of_planes[y - tile[1, 0]], filled[y - tile[1, 0]], z - box[0, 0], radius[0], weights[0],
                    first - tile[2, 0], last - tile[2, 0], sums,
                )  # fmt: skip
                _write(fine, number, z, y, first, last, tile[2, 0], sums, steps, origin, widths, descriptors, described)


@numba_jit
def _moments_along_x(labels, number, ends, begin, radius, weights, line, result):  # type: ignore[no-untyped-def]
    """Fill three moments (3, X) of a row of labels, and say if the object has a voxel in it."""
    line[:] = 0
    found = False
    for x in range(ends[0], ends[1]):
        if labels[x] == number:
            line[x - begin + radius] = 1
            found = True
    result[:] = 0
    if found:
        wide = result.shape[1]
        _add_centre(line[radius : radius + wide], weights[0, 0], result[0])
        for k in range(1, radius + 1):
            after, before = line[radius + k : radius + k + wide], line[radius - k : radius - k + wide]
            _add_even(after, before, weights[0, k], weights[2, k], result[0], result[2])
            _add_odd(after, before, weights[1, k], result[1])
    return found


@numba_jit
def _moments_along_y(of_rows, filled, row, radius, weights, result):  # type: ignore[no-untyped-def]
    """Fill six moments (6, X) of the rows about ``row``, and say if any is not empty."""
    result[:] = 0
    empty = filled.shape[0] - 1
    found = False
    for k in range(radius + 1):
        after, before = row + k, row - k
        after = after if 0 <= after < empty else empty
        before = before if 0 <= before < empty else empty
        if not (filled[after] or filled[before]):
            continue
        found = True
        if k == 0:
            _add_centre(of_rows[after, 0], weights[0, 0], result[0])
            _add_centre(of_rows[after, 1], weights[0, 0], result[3])
            _add_centre(of_rows[after, 2], weights[0, 0], result[5])
            continue
        w0, w1, w2 = weights[0, k], weights[1, k], weights[2, k]
        _add_even(of_rows[after, 0], of_rows[before, 0], w0, w2, result[0], result[2])
        _add_odd(of_rows[after, 0], of_rows[before, 0], w1, result[1])
        _add_sum(of_rows[after, 1], of_rows[before, 1], w0, result[3])
        _add_odd(of_rows[after, 1], of_rows[before, 1], w1, result[4])
        _add_sum(of_rows[after, 2], of_rows[before, 2], w0, result[5])
    return found


@numba_jit
def _moments_along_z(of_planes, filled, plane, radius, weights, begin, end, sums):  # type: ignore[no-untyped-def]
    """Fill the ten moments (10, X), from ``begin`` to ``end``, of the planes about ``plane``.

    They are, by the powers of the distances along z, y and x: 000, 100, 010, 001, 200, 020, 002, 110, 101, 011.
    """
    sums[:, begin:end] = 0
    empty = filled.shape[0] - 1
    for k in range(radius + 1):
        after, before = plane + k, plane - k
        after = after if 0 <= after < empty else empty
        before = before if 0 <= before < empty else empty
        if not (filled[after] or filled[before]):
            continue
        a, b = of_planes[after], of_planes[before]
        if k == 0:
            _add_centre(a[0, begin:end], weights[0, 0], sums[0, begin:end])
            _add_centre(a[1, begin:end], weights[0, 0], sums[2, begin:end])
            _add_centre(a[2, begin:end], weights[0, 0], sums[5, begin:end])
            _add_centre(a[3, begin:end], weights[0, 0], sums[3, begin:end])
            _add_centre(a[4, begin:end], weights[0, 0], sums[9, begin:end])
            _add_centre(a[5, begin:end], weights[0, 0], sums[6, begin:end])
            continue
        w0, w1, w2 = weights[0, k], weights[1, k], weights[2, k]
        _add_even(a[0, begin:end], b[0, begin:end], w0, w2, sums[0, begin:end], sums[4, begin:end])
        _add_odd(a[0, begin:end], b[0, begin:end], w1, sums[1, begin:end])
        _add_sum(a[1, begin:end], b[1, begin:end], w0, sums[2, begin:end])
        _add_odd(a[1, begin:end], b[1, begin:end], w1, sums[7, begin:end])
        _add_sum(a[2, begin:end], b[2, begin:end], w0, sums[5, begin:end])
        _add_sum(a[3, begin:end], b[3, begin:end], w0, sums[3, begin:end])
        _add_odd(a[3, begin:end], b[3, begin:end], w1, sums[8, begin:end])
        _add_sum(a[4, begin:end], b[4, begin:end], w0, sums[9, begin:end])
        _add_sum(a[5, begin:end], b[5, begin:end], w0, sums[6, begin:end])


@numba_jit
def _add_centre(values, weight, result):  # type: ignore[no-untyped-def]
    for n in range(result.shape[0]):
        result[n] += weight * values[n]


@numba_jit
def _add_sum(after, before, weight, result):  # type: ignore[no-untyped-def]
    for n in range(result.shape[0]):
        result[n] += weight * (after[n] + before[n])


@numba_jit
def _add_odd(after, before, weight, result):  # type: ignore[no-untyped-def]
    for n in range(result.shape[0]):
        result[n] += weight * (after[n] - before[n])


@numba_jit
def _add_even(after, before, weight, weight_of_squares, result, squares):  # type: ignore[no-untyped-def]
    """Add a moment and its square together: of more results at once, the compiler makes no vectors."""
    for n in range(result.shape[0]):
        both = after[n] + before[n]
        result[n] += weight * both
        squares[n] += weight_of_squares * both


@numba_jit
def _span(fine, number, z, y, ends, steps, origin, described):  # type: ignore[no-untyped-def]
    """The first coarse voxel of a row in whose fine ones the object is, and the one after the last."""
    first, last = ends[1], ends[0]
    for u in range(max(z * steps[0], origin[0]), min((z + 1) * steps[0], origin[0] + described.shape[0])):
        for v in range(max(y * steps[1], origin[1]), min((y + 1) * steps[1], origin[1] + described.shape[1])):
            for w in range(max(ends[0] * steps[2], origin[2]), min(ends[1] * steps[2], origin[2] + described.shape[2])):
                if fine[u, v, w] == number:
                    x = w // steps[2]
                    first, last = min(first, x), max(last, x + 1)
    return first, last


@numba_jit
def _write(fine, number, z, y, first, last, begin, sums, steps, origin, widths, descriptors, described):  # type: ignore[no-untyped-def]
    """Turn moments into descriptors, and give them to the fine voxels of the object."""
    found = np.empty(10, np.float32)
    for x in range(first, last):
        m = sums[:, x - begin]
        count = float(m[0])
        if count <= 0:
            continue
        for axis in range(3):
            mean = m[1 + axis] / count
            found[axis] = mean / widths[axis] * 0.5 + 0.5
            found[3 + axis] = max(m[4 + axis] / count - mean * mean, _FLOOR)
        pair = 0
        for one in range(3):
            for other in range(one + 1, 3):
                product = float(m[1 + one]) * float(m[1 + other])
                covariance = m[7 + pair] / count - product / (count * count)
                found[6 + pair] = covariance / np.sqrt(found[3 + one] * found[3 + other]) * 0.5 + 0.5
                pair += 1
        for axis in range(3):
            found[3 + axis] /= widths[axis] * widths[axis]
        found[9] = m[0]
        for c in range(10):
            found[c] = min(max(found[c], 0), 1)
        for u in range(max(z * steps[0], origin[0]), min((z + 1) * steps[0], origin[0] + described.shape[0])):
            for v in range(max(y * steps[1], origin[1]), min((y + 1) * steps[1], origin[1] + described.shape[1])):
                for w in range(max(x * steps[2], origin[2]), min((x + 1) * steps[2], origin[2] + described.shape[2])):
                    if fine[u, v, w] == number:
                        descriptors[:, u - origin[0], v - origin[1], w - origin[2]] = found
                        described[u - origin[0], v - origin[1], w - origin[2]] = 1
