"""The voxels of one array, sampled through a deformation, and the source box that they need.

Letters: D spatial axes (2 or 3), Z Y X the voxels of the target array.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError, DataError
from scalenet_gp.nodes.augment.deformation import Deformation
from scalenet_gp.nodes.augment.sampling import MapTables, byte_pairs, extent, sample_linear, sample_nearest
from scalenet_gp.nodes.augment.threads import over_planes

__all__ = ["Samples"]

_COMPILED = {"bool": np.uint8, "float16": np.float32}
"""Types that compiled code cannot compute with, and the types that it uses for them."""


@final
class Samples:
    """The voxels of one target array, each at its place in the source.

    Args:
        deformation: the map.
        roi: that the target fills, world units; its corner may lie anywhere.
        voxel_size: of source and target, world units. The source's voxels lie on its multiples.
    """

    def __init__(self, deformation: Deformation, roi: Roi, voxel_size: Coordinate) -> None:
        self.voxel_size = voxel_size
        self.shape = tuple(int(length) for length in roi.shape // voxel_size)
        # positions are counted from the voxel of the source that holds its centre, so that they are small numbers
        self._anchor = Coordinate(np.array(deformation.source_centre) // np.array(voxel_size)) * voxel_size
        self._tables = _tables(deformation, roi, voxel_size, self._anchor)
        self._low, self._high = self._extent()

    def box(self, interpolate: bool) -> Roi:
        """Return the smallest source ROI that holds every voxel that :meth:`read` needs."""
        first, last = self._bounds(interpolate)
        dims = len(self.shape)
        begin, shape = (Coordinate(lengths[-dims:]) for lengths in (first, last - first + 1))
        return Roi(self._anchor + begin * self.voxel_size, shape * self.voxel_size)

    def read(self, data: NDArray[Any], interpolate: bool, fractions: bool = False) -> NDArray[Any]:
        """Return the target voxels, (..., Z, Y, X).

        Args:
            data: the source in ``box(interpolate)``, with any number of leading channel axes.
            interpolate: True for linear interpolation between voxel centres, False for the nearest voxel (the upper one
                of two equally near).
            fractions: turn interpolated integers into float32 fractions of the largest value of their type, without
                rounding.

        Raises:
            DataError: values that cannot be interpolated.
            ArgumentError: a box of too many voxels.

        Returns:
            The dtype of ``data`` (interpolated integers are rounded, halves to even), or float32 fractions.
        """
        if interpolate and data.dtype.kind not in "biuf":
            raise DataError(f"values of type {data.dtype} cannot be interpolated; numbers can")
        data = data.astype(data.dtype.newbyteorder("="), copy=False)
        first, last = self._bounds(interpolate)
        channels = data.shape[: data.ndim - len(self.shape)]
        if not interpolate:
            result = np.empty((*channels, *self.shape), data.dtype)
            # as unsigned integers of that size: nothing is computed, and compiled code knows not every type
            plain = f"u{data.dtype.itemsize}"
            source, target = self._boxes(data.view(plain), result.view(plain), last - first + 1)
            over_planes(*self._work, lambda b, e: sample_nearest(self._tables, first, source, target, b, e))
            return result
        whole, fractions = data.dtype.kind in "iub", fractions and data.dtype.kind in "iu"
        known = data.astype(_COMPILED.get(data.dtype.name, data.dtype), copy=False)
        result = np.empty((*channels, *self.shape), np.float32 if fractions else known.dtype)
        exact = np.float32 if result.dtype == np.float32 else np.float64
        scale = np.array([1 / np.iinfo(data.dtype).max if fractions else 1], exact)
        source, target = self._boxes(known, result, last - first + 1)
        pairs = byte_pairs(source) if source.dtype == np.uint8 else None
        rounded = whole and not fractions

        def fill(begin: int, end: int) -> None:
            sample_linear(self._tables, first, source, pairs, scale, rounded, target, begin, end)

        over_planes(*self._work, fill)
        return result if fractions else result.astype(data.dtype, copy=False)

    @property
    def _volume(self) -> tuple[int, ...]:
        """The target's shape with three axes."""
        return (1,) * (3 - len(self.shape)) + self.shape

    def _boxes(
        self, data: NDArray[Any], result: NDArray[Any], box: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return source and target as (C, U, V, W) and (C, Z, Y, X).

        Raises:
            ArgumentError: the box has more voxels than compiled code counts.
        """
        if np.prod(box) > np.iinfo(np.int32).max:
            raise ArgumentError(f"a source box of {tuple(map(int, box))} voxels is too large to be deformed at once")
        return np.ascontiguousarray(data).reshape(-1, *box), result.reshape(-1, *self._volume)

    @property
    def _work(self) -> tuple[int, int]:
        """The number of planes, and of voxels in all."""
        return self._volume[0], int(np.prod(self.shape))

    def _extent(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the smallest and the largest position, (3,), from the anchor."""
        planes, voxels = self._work
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        # the planes at both ends come first, where the extremes are if the map does not fold
        for plane in (0, planes - 1):
            low, high = extent(self._tables, plane, plane + 1, low, high)
        parts = over_planes(planes, voxels, lambda begin, end: extent(self._tables, begin, end, low, high))
        return np.min([part[0] for part in parts], axis=0), np.max([part[1] for part in parts], axis=0)

    def _bounds(self, interpolate: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first and the last source voxel that is read, (3,), from the anchor."""
        if interpolate:
            return np.floor(self._low).astype(np.int64), np.ceil(self._high).astype(np.int64)
        return np.floor(self._low + 0.5).astype(np.int64), np.floor(self._high + 0.5).astype(np.int64)


def _tables(deformation: Deformation, roi: Roi, voxel_size: Coordinate, anchor: Coordinate) -> MapTables:
    """Return the map in voxels, counted from the centre of the one at ``anchor``."""
    dims, missing = roi.dims, 3 - roi.dims
    size = np.array(voxel_size, dtype=np.float64)[:, None]
    field = np.zeros((dims, *(4,) * dims))
    if deformation.elastic is not None:
        field = deformation.elastic.coefficients() / size.reshape(-1, *(1,) * dims)
    # compiled code counts three axes: one that is missing comes first, has one voxel, and its only spline is one there
    coefficients = np.zeros((3, *(4,) * missing, *field.shape[1:]))
    coefficients[missing:].reshape(dims, 4**missing, *field.shape[1:])[:, 0] = field
    affine, basis = [np.zeros((3, 1))] * missing, [np.eye(4, 1)] * missing
    first, used = [np.zeros(1, np.int64)] * missing, [slice(0, 4)] * missing
    # where the target's centre is read, which one axis has to add
    constant: Any = np.array(deformation.source_centre)[:, None] - np.array(anchor)[:, None] - size / 2
    for axis in range(dims):
        count = int(roi.shape[axis] // voxel_size[axis])
        along = roi.begin[axis] + (np.arange(count) + 0.5) * voxel_size[axis]
        column = np.array([[row[axis]] for row in deformation.matrix])
        positions = np.zeros((3, count))
        positions[missing:] = (column * (along - deformation.target_centre[axis]) + constant) / size
        affine.append(positions)
        constant = 0
        weights, start = np.zeros((4, count)), np.zeros(count, np.int64)
        if deformation.elastic is not None:
            weights, start = deformation.elastic.basis(axis, along)
        basis.append(weights)
        # of a field that covers all arrays, only what this one lies in: bounds become tighter, sums shorter
        lowest, highest = int(start[0]), int(start[-1])
        first.append(start - lowest)
        used.append(slice(lowest, highest + 4))
    z, y, x = range(3)
    used_field = np.moveaxis(coefficients[(slice(None), *used)], 0, 2)
    points = used_field.shape[-1]
    by_row = np.zeros((*used_field.shape[:-1], points + points % 2))
    by_row[..., :points] = used_field
    weights_x = np.zeros((by_row.shape[-1], len(first[x])))
    np.put_along_axis(weights_x, first[x] + np.arange(4)[:, None], basis[x], axis=0)
    return MapTables(
        affine[z],
        affine[y],
        affine[x],
        by_row.reshape(*by_row.shape[:2], -1),
        basis[z],
        basis[y],
        first[z],
        first[y],
        weights_x,
    )
