"""A gap between instances, the same one at several voxel sizes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import reduce
from itertools import product
from typing import Any, final

import numpy as np
from gunpowder import Array, ArrayKey, ArraySpec, Batch, BatchFilter, BatchRequest, Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError, DataError, PipelineError
from scalenet_gp.geometry import Length, World, exact, format_size

__all__ = ["GrowBoundary", "shrink_labels"]


@final
class GrowBoundary(BatchFilter):
    """Shrink instances, so that there is background between those that touch, at several voxel sizes in step.

    It is decided once, at the finest of the arrays: a voxel becomes background if the centre of a voxel with another
    label, or of the background, lies within ``width`` of its own centre. In a coarser array, a voxel keeps its label if
    that is the label of at least half of the finest voxels in it, after they were shrunk, and becomes background
    otherwise. So an edge of an instance is at the same place at every voxel size, to a voxel of it; a gap that is
    narrow for a coarse voxel is not there.

    gunpowder's ``GrowBoundary`` counts in voxels of its array, sees nothing beyond the request, and takes one array.
    With a ``width`` of a voxel, this one makes what that makes in one step.

    The finest array is asked for in the union of the requested ROIs and ``width`` further on every side, so that a
    voxel does not depend on the request. Where it ends, the arrays end that much earlier. Nothing is shrunk against
    unknown voxels.

    The node goes downstream of the nodes that deform the labels, and upstream of those that make targets of them.

    Args:
        labels: the instances, (z, y, x) or (1, z, y, x), or several arrays of them; voxel sizes are multiples of the
            finest one's. At coarse voxel sizes, as from ``MultiscaleSource(labels=True)``.
        width: nm by which instances are shrunk; at least a voxel of the finest array along some axis.
        world: the world that the pipeline counts in.
        mask: 1 where the labels of the finest array are known. None: they are known everywhere.
        unknown: the label of voxels that nobody has annotated, or several, if there are any.

    Raises:
        ArgumentError: no array, one named twice, or a width that is not positive.
        PipelineError: when the pipeline is built: an array is not provided upstream, a voxel size is not a multiple of
            the finest, or ``width`` is less than a voxel.
        DataError: for a batch: labels of several channels.

    Example:
        >>> import gunpowder as gp
        >>> from scalenet_gp.geometry import World
        >>> labels = [gp.ArrayKey("LABELS_8"), gp.ArrayKey("LABELS_32")]
        >>> GrowBoundary(labels, 8, world=World()).width
        Fraction(8, 1)
    """

    def __init__(
        self,
        labels: ArrayKey | Collection[ArrayKey],
        width: Length,
        *,
        world: World,
        mask: ArrayKey | None = None,
        unknown: int | Collection[int] | None = None,
    ) -> None:
        self.labels = (labels,) if isinstance(labels, ArrayKey) else tuple(labels)
        keys = [key for key in (*self.labels, mask) if key is not None]
        if not self.labels or len(set(keys)) < len(keys):
            raise ArgumentError(f"GrowBoundary needs one or more arrays of labels, each once, not {keys}")
        self.width, self.mask = exact(width), mask
        if self.width <= 0:
            raise ArgumentError(f"width={width} nm has to be positive")
        self.unknown = () if unknown is None else (unknown,) if isinstance(unknown, int) else tuple(unknown)
        self._world = world
        self._finest = self.labels[0]
        self._reach = Coordinate()
        self._offsets: tuple[tuple[int, ...], ...] = ()

    def setup(self) -> None:
        """Announce the labels, without the margin."""
        read = [*self.labels, *([] if self.mask is None else [self.mask])]
        for key in read:
            if key not in self.spec or self.spec[key].voxel_size is None:
                raise PipelineError(f"GrowBoundary reads {key}, which no node upstream provides with a voxel size")
        sizes = {key: self.spec[key].voxel_size for key in read}
        self._finest = min(self.labels, key=lambda key: tuple(sizes[key]))
        size = sizes[self._finest]
        for key in read:
            if len(sizes[key]) != len(size) or any(sizes[key] % size) or (key == self.mask and sizes[key] != size):
                raise PipelineError(
                    f"GrowBoundary: {key} has voxels of {tuple(sizes[key])} world units, the finest labels "
                    f"{self._finest} {tuple(size)}; labels have multiples of that, and the mask has the same"
                )
        self._offsets = tuple(_offsets([float(length / self.width) for length in self._world.size_in_nm(size)]))
        if not self._offsets:
            raise PipelineError(
                f"GrowBoundary: width is {format_size([self.width])} nm, less than a voxel of {self._finest}, "
                f"{format_size(self._world.size_in_nm(size))} nm"
            )
        self._reach = Coordinate(max(map(abs, along)) for along in zip(*self._offsets, strict=True)) * size
        bounded = [self.spec[key].roi for key in read if self.spec[key].roi is not None]
        inner = reduce(Roi.intersect, bounded).grow(-self._reach, -self._reach) if bounded else None
        for key in self.labels:
            spec = self.spec[key].copy()
            if inner is not None and not inner.unbounded:
                spec.roi = inner.snap_to_grid(sizes[key], mode="shrink")
                if spec.roi.empty:
                    raise PipelineError(f"GrowBoundary: nothing is left of {key} without the margin {self._reach}")
            self.updates(key, spec)
        self.enable_autoskip()

    def prepare(self, request: BatchRequest) -> BatchRequest:
        """Ask for the finest labels wherever labels are asked for, and further."""
        needed = BatchRequest()
        asked = [key for key in self.labels if key in request]
        for key in asked:
            needed[key] = ArraySpec(roi=request[key].roi)
        roi = self._read_roi(request)
        for key in (self._finest, self.mask):
            if key is not None:
                needed[key] = ArraySpec(roi=roi)
        return needed

    def process(self, batch: Batch, request: BatchRequest) -> Batch:
        """Shrink the labels."""
        roi, size = self._read_roi(request), self.spec[self._finest].voxel_size
        fine = self._volume(batch[self._finest].crop(roi), self._finest)
        known = np.ones(fine.shape, bool)
        if self.mask is not None:
            known = self._volume(batch[self.mask].crop(roi), self.mask) > 0
        known &= ~np.isin(fine, self.unknown)
        shrunk = shrink_labels(fine, known, self._offsets)
        made = Batch()
        for key in self.labels:
            if key not in request:
                continue
            own = request[key].roi
            part = ((own - roi.begin) // size).to_slices()
            array, spec = batch[key].crop(own), self.spec[key].copy()
            spec.roi = own
            labels = self._volume(array, key)
            if key == self._finest:
                labels = shrunk[part]
            else:
                factor = self.spec[key].voxel_size // size
                labels = np.where(_kept(labels, shrunk[part], known[part], factor), labels, labels.dtype.type(0))
            made[key] = Array(labels.reshape(array.data.shape), spec, dict(array.attrs))
        return made

    def _read_roi(self, request: BatchRequest) -> Roi:
        asked = (request[key].roi for key in self.labels if key in request)
        return reduce(Roi.union, asked).grow(self._reach, self._reach)

    def _volume(self, array: Array, key: ArrayKey) -> NDArray[Any]:
        """Return the voxels without a channel axis.

        Raises:
            DataError: there are several channels.
        """
        dims = array.spec.roi.dims
        if array.data.ndim not in (dims, dims + 1) or array.data.size != np.prod(array.data.shape[-dims:]):
            raise DataError(
                f"GrowBoundary: {key} has shape {array.data.shape}; labels have one channel, or no axis of channels"
            )
        volume: NDArray[Any] = array.data.reshape(array.data.shape[-dims:])
        return volume


def shrink_labels(labels: NDArray[Any], known: NDArray[Any], offsets: Collection[tuple[int, ...]]) -> NDArray[Any]:
    """Return labels with 0 at every known voxel that has a known one of another label at an offset.

    Args:
        labels: whole numbers, (z, y, x) or (y, x).
        known: boolean, of the same shape.
        offsets: in voxels. With an offset, its opposite counts too.

    Example:
        >>> shrink_labels(np.array([[1, 1, 1, 2, 2, 2]]), np.ones((1, 6), bool), [(0, 1)]).tolist()
        [[1, 1, 0, 0, 2, 2]]
    """
    gap = np.zeros(labels.shape, bool)
    for offset in offsets:
        here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, labels.shape, strict=True))
        there = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, labels.shape, strict=True))
        differ = (labels[here] != labels[there]) & known[here] & known[there]
        gap[here] |= differ
        gap[there] |= differ
    return np.where(gap, labels.dtype.type(0), labels)


def _offsets(sizes: list[float]) -> Iterator[tuple[int, ...]]:
    """Yield the offsets no longer than 1, one of each and its opposite.

    Args:
        sizes: of a voxel, in widths.
    """
    reach = [int(1 / size + 1e-9) for size in sizes]
    for offset in product(*(range(-n, n + 1) for n in reach)):
        if offset > (0,) * len(sizes) and sum((o * s) ** 2 for o, s in zip(offset, sizes, strict=True)) <= 1 + 1e-9:
            yield offset


def _kept(labels: NDArray[Any], shrunk: NDArray[Any], known: NDArray[Any], factor: Coordinate) -> NDArray[np.bool_]:
    """Return where at least half of the fine voxels of a coarse one have its label, or are unknown."""
    blocks = [n for length, f in zip(labels.shape, factor, strict=True) for n in (length, f)]
    within = tuple(range(1, len(blocks), 2))
    same = (shrunk.reshape(blocks) == np.expand_dims(labels, within)) | ~known.reshape(blocks)
    kept: NDArray[np.bool_] = 2 * np.count_nonzero(same, axis=within) >= np.prod(factor)
    return kept
