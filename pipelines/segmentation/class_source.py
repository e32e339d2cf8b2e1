"""Reading of the voxels of one class from a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np

from scalenet_gp.pipelines.segmentation.boxes import grow_box, slices_within
from scalenet_gp.pipelines.segmentation.job import SegmentedClass
from scalenet_gp.segmentation import BallClosing
from scalenet_gp.volumes import MultiscaleArrayWriter, open_array

__all__ = ["ClassSource"]


@final
class ClassSource:
    """Decides which voxels are of a class, as the evaluation does, and closes the gaps between them.

    Any number of threads may read at once.

    Args:
        prediction: the predicted zarr group.
        part: the class.

    Raises:
        FileNotFoundError: the prediction is gone.
    """

    def __init__(self, prediction: Path, part: SegmentedClass) -> None:
        path = prediction / part.volume
        layout = MultiscaleArrayWriter.open(path).layout
        self._array = open_array(path / layout.finest.path)
        self._scale = float(layout.scale)
        self._part = part
        self._closing = BallClosing(part.options.closing, part.voxel_size)

    def read(self, begin: Sequence[int], end: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the voxels of the class and its values in a box, each (z, y, x): boolean, and float32.

        Args:
            begin: first voxel, counted from that of the region.
            end: the voxel after the last.

        Raises:
            OSError: the prediction cannot be read.
        """
        part = self._part
        low, past = grow_box(begin, end, self._closing.margin, part.shape)
        box = tuple(slice(first + b, first + e) for first, b, e in zip(part.begin, low, past, strict=True))
        channel = slice(None) if part.exclusive else slice(part.channel, part.channel + 1)
        values = self._array[(channel, *box)].astype(np.float32) * self._scale
        scored, _, _ = part.targets.as_classes(values, values, values)
        index = part.channel - (len(values) - len(scored)) if part.exclusive else 0
        mask, inside = scored[index] >= part.options.threshold, slices_within(begin, end, low)
        return self._closing(mask)[inside], (values[part.channel] if part.exclusive else scored[0])[inside]
