"""Writing of predicted boxes into the volumes of a prediction, with the levels that fit into a box."""

from __future__ import annotations

from typing import final

import numpy as np
from funlib.geometry import Roi

from scalenet_gp.pipelines.blockwise import coarsen, levels_within_blocks
from scalenet_gp.pipelines.prediction.prediction import Prediction
from scalenet_gp.volumes import MultiscaleArrayWriter

__all__ = ["VolumeWriter"]


@final
class VolumeWriter:
    """Writes blocks of every product. Any number of threads may call it at once.

    Args:
        prediction: the opened job; its volumes have been created.
    """

    def __init__(self, prediction: Prediction) -> None:
        self._prediction = prediction
        self._volumes = {product: MultiscaleArrayWriter.open(folder) for product, folder in prediction.folders()}

    def write(self, product: str, roi: Roi, data: np.ndarray) -> None:
        """Write a block, and the coarser levels that it makes. When this returns, they are on the disk.

        Args:
            product: name of the product.
            roi: the block, world units.
            data: its voxels, (C, Z, Y, X).

        Raises:
            OSError: they cannot be written.
            DataError: a value cannot be stored.
        """
        volume, size, grid = self._volumes[product], self._prediction.voxel_sizes[product], self._prediction.grid
        begin, end = ((corner - grid.roi.begin) / size for corner in (roi.begin, roi.end))
        volume.write(begin, data)
        for level in range(1, levels_within_blocks(volume.layout, self._prediction.block_voxels(product))):
            coarsen(volume, level, begin, end)
