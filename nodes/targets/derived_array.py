"""The base of nodes that make one array from another, voxel by voxel and with a margin around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import reduce

import numpy as np
from gunpowder import Array, ArrayKey, ArraySpec, Batch, BatchFilter, BatchRequest, Coordinate, Roi

from scalenet_gp.errors import ArgumentError, DataError, PipelineError
from scalenet_gp.nodes.requests import CheapCopySpec

__all__ = ["DerivedArray"]


class DerivedArray(BatchFilter, ABC):
    """Abstract: provide arrays that are made from one array and its mask upstream.

    The node asks for the source with a margin around the requested ROI, so that a voxel does not depend on the ROI in
    which it is requested. Where the source ends, the derived arrays end a margin earlier. A subclass defines the margin
    and makes the arrays.

    Args:
        source: the array to make others from, (channel, z, y, x) or (z, y, x).
        mask: 1 where the source is known, in its shape or with one channel for all. None: it is known everywhere.
        derived: every array to provide, and its dtype; None: it is not wanted.

    Raises:
        ArgumentError: a key is used twice.
        PipelineError: when the pipeline is built: source or mask are not provided upstream, have different voxel sizes,
            or end so soon that the margin leaves nothing. For a batch: an array of other axes.
        DataError: for a batch: source and mask differ in their channels.
    """

    def __init__(self, source: ArrayKey, mask: ArrayKey | None, *derived: tuple[ArrayKey | None, type]) -> None:
        self.source, self.mask = source, mask
        self._derived = {key: np.dtype(dtype) for key, dtype in derived if key is not None}
        keys = [key for key in (source, mask, *(key for key, _ in derived)) if key is not None]
        if len(set(keys)) < len(keys):
            raise ArgumentError(f"{self.name()} needs an array of its own for each of {', '.join(map(str, keys))}")

    @abstractmethod
    def margin(self, voxel_size: Coordinate) -> tuple[Coordinate, Coordinate]:
        """Return how many voxels of the source the derived arrays depend on, below and above each voxel."""

    @abstractmethod
    def derive(
        self, values: np.ndarray, known: np.ndarray, begin: Coordinate, voxel_size: Coordinate
    ) -> Mapping[ArrayKey | None, np.ndarray]:
        """Return the derived arrays, (channel, z, y, x), without the margin.

        Args:
            values: the source with the margin, (channel, z, y, x).
            known: True where the source is known, in its shape or with one channel for all.
            begin: the position of the first voxel, in voxels from the world's origin.
            voxel_size: world units.
        """

    def setup(self) -> None:
        """Announce the derived arrays."""
        read = [key for key in (self.source, self.mask) if key is not None]
        for key in read:
            if key not in self.spec or self.spec[key].voxel_size is None:
                raise PipelineError(f"{self.name()} reads {key}, which no node upstream provides with a voxel size")
        sizes = {str(key): tuple(self.spec[key].voxel_size) for key in read}
        if len(set(sizes.values())) > 1:
            raise PipelineError(f"{self.name()}: array and mask have different voxel sizes: {sizes}")
        size = self.spec[self.source].voxel_size
        below, above = (reach * size for reach in self.margin(size))
        rois = [self.spec[key].roi for key in read if self.spec[key].roi is not None]
        roi = self._without_margin(reduce(Roi.intersect, rois), below, above) if rois else None
        for key, dtype in self._derived.items():
            self.provides(key, CheapCopySpec(roi, size, interpolatable=dtype.kind == "f", dtype=dtype))
        self.enable_autoskip()

    def prepare(self, request: BatchRequest) -> BatchRequest:
        """Ask for the source and its mask with the margin."""
        dependencies = BatchRequest()
        roi = self._read_roi(request)
        for key in (self.source, self.mask):
            if key is not None:
                dependencies[key] = ArraySpec(roi=roi)
        return dependencies

    def process(self, batch: Batch, request: BatchRequest) -> Batch:
        """Make the requested arrays."""
        size = self.spec[self.source].voxel_size
        roi = self._read_roi(request)
        values = self._voxels(batch, self.source, roi)
        known = np.ones((1, *values.shape[1:]), dtype=bool)
        if self.mask is not None:
            known = self._voxels(batch, self.mask, roi) > 0
            if len(known) not in (1, len(values)):
                raise DataError(
                    f"{self.name()}: the mask {self.mask} has {len(known)} channels, {self.source} has {len(values)}"
                )
        below, above = (reach * size for reach in self.margin(size))
        made = Batch()
        for key, data in self.derive(values, known, roi.begin // size, size).items():
            if key is not None and key in request:
                spec = self.spec[key].copy()
                spec.roi = roi.grow(-below, -above)
                made[key] = Array(data, spec).crop(request[key].roi)
        return made

    def _without_margin(self, roi: Roi, below: Coordinate, above: Coordinate) -> Roi:
        inner = roi.grow(-below, -above)
        if inner.empty:
            read = " and ".join(str(key) for key in (self.source, self.mask) if key is not None)
            raise PipelineError(
                f"{self.name()}: {read} end with {roi}, and nothing is left of it without the margin that is needed, "
                f"{below} below and {above} above (world units); a smaller margin, a larger crop, or a source with "
                "padding and a mask would do"
            )
        return inner

    def _read_roi(self, request: BatchRequest) -> Roi:
        size = self.spec[self.source].voxel_size
        below, above = (reach * size for reach in self.margin(size))
        asked = (request[key].roi for key in self._derived if key in request)
        return reduce(Roi.union, asked).grow(below, above)

    def _voxels(self, batch: Batch, key: ArrayKey, roi: Roi) -> np.ndarray:
        data: np.ndarray = batch[key].crop(roi, copy=False).data
        if data.ndim not in (roi.dims, roi.dims + 1):
            raise PipelineError(
                f"{self.name()}: {key} has shape {data.shape}; expected is (channel, {roi.dims} spatial axes) "
                f"or {roi.dims} spatial axes, so this node goes before Stack"
            )
        return data if data.ndim > roi.dims else data[np.newaxis]
