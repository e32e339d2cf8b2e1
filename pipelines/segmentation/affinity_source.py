"""Reading of affinities from a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np

from scalenet_gp.pipelines.segmentation.boxes import grow_box, slices_within
from scalenet_gp.pipelines.segmentation.job import SegmentedAffinities
from scalenet_gp.pipelines.segmentation.steps import Voxels
from scalenet_gp.segmentation import (
    AgglomerateOptions,
    adjacent_offsets,
    attached_faces,
    forward_affinities,
    mean_affinities,
)
from scalenet_gp.volumes import MultiscaleArrayWriter, open_array

__all__ = ["AffinityMask", "AffinitySource"]


@final
class AffinitySource:
    """Reads the affinities of an output. Any number of threads may read at once.

    Args:
        prediction: the predicted zarr group.
        part: the output.

    Raises:
        FileNotFoundError: the prediction is gone.
    """

    def __init__(self, prediction: Path, part: SegmentedAffinities) -> None:
        path = prediction / part.volume
        layout = MultiscaleArrayWriter.open(path).layout
        self._array = open_array(path / layout.finest.path)
        self._scale = np.float32(float(layout.scale))
        self._first = part.begin
        self.shape, self.offsets = part.shape, part.offsets
        self.adjacent = adjacent_offsets(part.offsets)

    def read(self, begin: Sequence[int], end: Sequence[int], channels: Sequence[int] | None = None) -> np.ndarray:
        """Return the affinities of the voxels in a box, float32 (offset, z, y, x).

        Args:
            begin: first voxel, counted from that of the region.
            end: the voxel after the last.
            channels: indices of offsets; all unless given.

        Raises:
            OSError: the prediction cannot be read.
        """
        box = tuple(slice(first + int(b), first + int(e)) for first, b, e in zip(self._first, begin, end, strict=True))
        chosen = range(len(self.offsets)) if channels is None else channels
        return np.concatenate([self._array[(slice(c, c + 1), *box)] for c in chosen]).astype(np.float32) * self._scale

    def forward(self, begin: Sequence[int], end: Sequence[int]) -> tuple[np.ndarray, tuple[slice, ...]]:
        """Return the affinities of neighbours in a box with a voxel around it, and the box in there.

        See :func:`.forward_affinities`. Arguments are those of :meth:`read`.
        """
        first, past = grow_box(begin, end, (1,) * len(self.shape), self.shape)
        values = self.read(first, past, self.adjacent)
        inside = slices_within(begin, end, first)
        return forward_affinities(values, [self.offsets[index] for index in self.adjacent]), inside


@final
class AffinityMask:
    """Reads which voxels are of objects, and which of them are attached to their neighbours.

    Args:
        source: the affinities.
        options: their ``threshold`` and ``background``.
    """

    def __init__(self, source: AffinitySource, options: AgglomerateOptions) -> None:
        self._source, self._options = source, options

    def read(self, begin: Sequence[int], end: Sequence[int]) -> Voxels:
        """Return the voxels in a box."""
        forward, inside = self._source.forward(begin, end)
        values = mean_affinities(forward)[inside]
        attached = attached_faces(forward, self._options.threshold)[inside]
        return Voxels(values >= self._options.threshold, values, attached, more=values >= self._options.background)
