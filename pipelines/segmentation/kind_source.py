"""Reading of the probabilities of kinds at the voxels of fragments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np

from scalenet_gp.pipelines.segmentation.job import KindVolume, SegmentedAffinities
from scalenet_gp.volumes import MultiscaleArrayWriter, open_array

__all__ = ["KindSource"]


@final
class KindSource:
    """Reads the probabilities of kinds, for each voxel of affinities those of the voxel that its centre lies in.

    Args:
        prediction: the predicted zarr group.
        part: the affinities.
        kinds: the output that has them.

    Raises:
        FileNotFoundError: the prediction is gone.
    """

    def __init__(self, prediction: Path, part: SegmentedAffinities, kinds: KindVolume) -> None:
        layout = MultiscaleArrayWriter.open(prediction / kinds.volume).layout
        self._array = open_array(prediction / kinds.volume / layout.finest.path)
        self._scale = np.float32(float(layout.scale))
        self._channels = kinds.channels
        self._part, self._source = part, kinds.source
        self._shape = layout.finest.shape

    def read(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray:
        """Return the probabilities in a box, float32 (kind, z, y, x); beyond the output, those at its border.

        Args:
            begin: first voxel, counted from that of the region.
            end: the voxel after the last.

        Raises:
            OSError: the prediction cannot be read.
        """
        places = []
        for axis, (b, e) in enumerate(zip(begin, end, strict=True)):
            corner, size = self._part.corner[axis], self._part.voxel_size[axis]
            first, step = self._source.begin[axis], self._source.voxel_size[axis]
            centres = (corner + (2 * index + 1) * size / 2 for index in range(int(b), int(e)))
            along = [math.floor((centre - first) / step) for centre in centres]
            places.append(np.clip(along, 0, self._shape[axis] - 1))
        box = tuple(slice(int(along[0]), int(along[-1]) + 1) for along in places)
        values = np.concatenate([self._array[(slice(c, c + 1), *box)] for c in self._channels])
        here = np.ix_(range(len(self._channels)), *(along - along[0] for along in places))
        return values.astype(np.float32)[here] * self._scale
