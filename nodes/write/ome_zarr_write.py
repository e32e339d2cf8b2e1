"""A gunpowder node that writes arrays as OME-Zarr while they pass through it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
from gunpowder import Array, ArrayKey, Batch, BatchFilter, BatchRequest, Coordinate, Roi

from scalenet_gp.errors import ArgumentError, LatticeError, PipelineError, UnknownNameError
from scalenet_gp.geometry import World
from scalenet_gp.volumes import MultiscaleWriter, StrPath

__all__ = ["OmeZarrWrite"]

logger = logging.getLogger(__name__)


@final
class OmeZarrWrite(BatchFilter):
    """Pass batches through and write some of their arrays, block by block, each as one multiscale volume.

    A pipeline does not tell its nodes whether it is torn down because it is done or because something failed. So the
    volumes get their coarser levels and their names at the end if every voxel of every ROI was written, and nothing
    failed here or upstream. Otherwise nothing is left of them. Each voxel has to be written once: let the blocks tile
    the ROI (``gunpowder.Scan`` shifts its last blocks back if its reference does not divide the ROI). An array that
    gunpowder may not interpolate counts as labels: its coarser levels are made by majority.

    Args:
        paths: the volume to write for each array of (z, y, x), (channel, z, y, x) or (1, channel, z, y, x).
        rois: the ROI to write of each array, world units, on its lattice.
        world: the world that the pipeline counts in.
        channels: names for the channels of an array. Without names, an array of one channel is written without a
            channel axis, and several are numbered.
        levels: the number of levels to write.
        attributes: further attributes of every volume, JSON: the origin of the data, for example.

    Raises:
        ArgumentError: no ROI for one of the arrays, or ROIs or channels for an array that is not written.
        FileExistsError: when the pipeline is built: there is something at one of the paths.
        UnknownNameError: when the pipeline is built: an array is not provided upstream.
        LatticeError: when the pipeline is built: a ROI off the lattice or outside the provided ROI.

    Example:
        >>> import gunpowder as gp
        >>> from scalenet_gp.geometry import World
        >>> key, roi = gp.ArrayKey("PREDICTION"), gp.Roi((0, 0, 0), (64, 64, 64))
        >>> node = OmeZarrWrite({key: "prediction.zarr"}, {key: roi}, World(), channels={key: ["mito"]})
    """

    def __init__(
        self,
        paths: Mapping[ArrayKey, StrPath],
        rois: Mapping[ArrayKey, Roi],
        world: World,
        *,
        channels: Mapping[ArrayKey, Sequence[str]] | None = None,
        levels: int = 1,
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        self.paths = {key: Path(path) for key, path in paths.items()}
        self.rois = {key: roi.copy() for key, roi in rois.items()}
        self.world = world
        self.channels = dict(channels or {})
        self.levels = levels
        self.attributes = dict(attributes or {})
        if self.paths.keys() != self.rois.keys() or not self.channels.keys() <= self.paths.keys():
            raise ArgumentError(
                f"the arrays written are {_names(self.paths)}; there are ROIs for {_names(self.rois)} and channel "
                f"names for {_names(self.channels)}"
            )
        self._writers: dict[ArrayKey, MultiscaleWriter] = {}
        self._coverages: dict[ArrayKey, _Coverage] = {}
        self._failed = False
        self._process = os.getpid()

    def setup(self) -> None:
        """Check the paths and ROIs; nothing is written yet."""
        for key, path in self.paths.items():
            if key not in self.spec:
                raise UnknownNameError(
                    f"{key} is to be written to {path}, but upstream provides {_names(self.spec.array_specs)}"
                )
            spec, roi = self.spec[key], self.rois[key]
            size = spec.voxel_size
            # a network's predictions have no ROI of their own: they end where its inputs do
            provided = spec.roi is None or spec.roi.contains(roi)
            if roi.dims != len(size) or roi.unbounded or roi.empty or not provided:
                raise LatticeError(f"{key}: ROI {roi} to be written to {path} is not within {spec.roi}, as provided")
            if not (roi.begin.is_multiple_of(size) and roi.shape.is_multiple_of(size)):
                raise LatticeError(
                    f"{key}: ROI {roi} to be written to {path} is off the lattice of its voxels of {tuple(size)}; "
                    f"the nearest on it is {roi.snap_to_grid(size, mode='closest')}"
                )
            if path.exists():
                raise FileExistsError(f"{path} exists; choose another path for {key} or remove it")
        self._writers, self._failed, self._process = {}, False, os.getpid()
        self._coverages = {key: _Coverage(roi.shape // self.spec[key].voxel_size) for key, roi in self.rois.items()}
        for key in self.paths:
            self.updates(key, self.spec[key])
        self.enable_autoskip()

    def provide(self, request: BatchRequest) -> Batch:
        """Pass the request on, and take note if it fails."""
        try:
            return super().provide(request)
        except BaseException:
            self._failed = True
            raise

    def process(self, batch: Batch, request: BatchRequest) -> None:
        """Write the arrays of the request."""
        if os.getpid() != self._process:
            raise RuntimeError(
                "OmeZarrWrite runs in another process than the pipeline was built in, and cannot keep account of what "
                "was written; let it run in the same: put it downstream of PreCache, and use Scan with one worker"
            )
        for key in self.paths:
            if key in request:
                self._write(key, batch[key])

    def teardown(self) -> None:
        """Finish the volumes, or leave nothing of them."""
        missing = {key: coverage.missing for key, coverage in self._coverages.items() if coverage.missing}
        writers, self._writers, self._coverages = self._writers, {}, {}
        if self._failed or missing:
            for writer in writers.values():
                writer.discard()
            if missing and not self._failed:
                shortfall = ", ".join(f"{key} lacks {count} voxels" for key, count in missing.items())
                logger.error("nothing written to %s: %s", ", ".join(map(str, self.paths.values())), shortfall)
            return
        try:
            for writer in writers.values():
                writer.finish()
        finally:
            for writer in writers.values():
                writer.discard()

    def _write(self, key: ArrayKey, array: Array) -> None:
        total, voxel_size = self.rois[key], array.spec.voxel_size
        if not total.contains(array.spec.roi):
            raise LatticeError(f"{key}: the block {array.spec.roi} is outside {total}, which is to be written")
        dims = total.dims
        leading = array.data.shape[: array.data.ndim - dims]
        if len(leading) > 2 or (len(leading) == 2 and leading[0] != 1):
            raise PipelineError(
                f"{key}: an array of shape {array.data.shape} cannot be written: it has to be (z, y, x), "
                "(channel, z, y, x) or (1, channel, z, y, x)"
            )
        data = array.data.reshape(*leading[-1:], *array.data.shape[array.data.ndim - dims :])
        if key not in self._writers:
            self._writers[key] = self._start(key, data, dims)
        if data.ndim > dims and not self._writers[key].layout.channels:
            data = data.reshape(data.shape[1:])
        begin = (array.spec.roi.begin - total.begin) // voxel_size
        self._coverages[key].add(str(key), begin, array.spec.roi.shape // voxel_size)
        self._writers[key].write(begin, data)

    def _start(self, key: ArrayKey, data: np.ndarray, dims: int) -> MultiscaleWriter:
        spec, total = self.spec[key], self.rois[key]
        count = data.shape[0] if data.ndim > dims else 1
        names = self.channels.get(key, () if count == 1 else tuple(map(str, range(count))))
        if names and len(names) != count:
            raise ArgumentError(f"{key}: {len(names)} channel names {tuple(names)} for {count} channels")
        return MultiscaleWriter(
            self.paths[key],
            voxel_size=self.world.size_in_nm(spec.voxel_size),
            corner=self.world.position_in_nm(total.begin),
            shape=total.shape // spec.voxel_size,
            dtype=data.dtype,
            channels=names,
            levels=self.levels,
            labels=spec.interpolatable is False,
            attributes=self.attributes,
        ).start()


class _Coverage:
    """A record of the voxels that were written: disjoint boxes, whose sizes add up."""

    def __init__(self, shape: Coordinate) -> None:
        self.missing = int(np.prod(shape, dtype=object))
        self._begins = np.empty((0, len(shape)), dtype=np.int64)
        self._ends = np.empty((0, len(shape)), dtype=np.int64)

    def add(self, name: str, begin: Coordinate, shape: Coordinate) -> None:
        """Add a box inside the whole.

        Raises:
            PipelineError: some of its voxels were written before.
        """
        end = begin + shape
        overlapping = np.flatnonzero(((self._begins < end) & (self._ends > begin)).all(axis=1))
        if overlapping.size:
            other = overlapping[0]
            raise PipelineError(
                f"{name}: the block of voxels {tuple(begin)} to {tuple(end)} overlaps the one of "
                f"{tuple(self._begins[other].tolist())} to {tuple(self._ends[other].tolist())}, written before; the "
                "blocks have to tile the ROI"
            )
        self._begins = np.concatenate([self._begins, [begin]])
        self._ends = np.concatenate([self._ends, [end]])
        self.missing -= int(np.prod(shape, dtype=object))


def _names(keys: Mapping[ArrayKey, object]) -> str:
    return ", ".join(map(str, keys)) or "none"
