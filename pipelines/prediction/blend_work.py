"""The work on a block whose tiles overlap: read the tiles that have a part of it, blend them, write."""

from __future__ import annotations

from functools import partial
from threading import Lock
from typing import final

import numpy as np
import torch
from funlib.geometry import Roi
from numpy.typing import NDArray

from scalenet_gp.inference import OverlappingTiles, Seam
from scalenet_gp.pipelines.prediction.prediction import Prediction, output_of
from scalenet_gp.pipelines.prediction.tile_store import TileStore
from scalenet_gp.pipelines.prediction.volume_writer import VolumeWriter

__all__ = ["BlendWork"]


@final
class BlendWork:
    """Blends blocks. Of several threads that call it at once, one reads and blends, and any number write.

    Args:
        prediction: the opened job; its volumes have been created.
        tiles: its tiles.
        store: keeps the tiles, which have been predicted.
    """

    def __init__(self, prediction: Prediction, tiles: OverlappingTiles, store: TileStore) -> None:
        self._prediction = prediction
        self._tiles = tiles
        self._store = store
        self._channels = prediction.computing.produced(prediction.job.options.outputs)
        self._volumes = VolumeWriter(prediction)
        self._blending = Lock()

    def __call__(self, roi: Roi) -> None:
        """Blend a block. When this returns, the block is on the disk.

        The entropy is that of the blended mean. The variance is the blended variance of each tile's members.

        Args:
            roi: the block, world units.

        Raises:
            OSError: a tile cannot be read, or the disk is full.
        """
        prediction, seams = self._prediction, []
        for output in prediction.job.options.outputs:
            with self._blending:
                made, seam = self._blend_output(output, roi)
            seams.append(seam)
            for product in prediction.ensemble.produced([output]):
                self._volumes.write(product, roi, made[product])
        self._store.record_seams((roi.begin - prediction.grid.roi.begin) / prediction.grid.block, seams)

    def _blend_output(self, output: str, roi: Roi) -> tuple[dict[str, NDArray[np.float32]], Seam]:
        """Return the products of an output in a block, and the seam of its mean, or of its variance if there is none.

        A mean that is not to be stored may be among them.
        """
        made, seams = {}, []
        for product in self._prediction.computing.produced([output]):
            made[product], seam = self._blend_product(product, roi)
            seams.append(seam)
        entropy = f"{output}/entropy"
        if entropy in self._prediction.voxel_sizes:
            mean = torch.from_numpy(made[output])[None]
            made[entropy] = self._prediction.ensemble.entropy(output, mean)[0].numpy()
        return made, seams[0]

    def _blend_product(self, product: str, roi: Roi) -> tuple[NDArray[np.float32], Seam]:
        """Return the channels of a product in a block, blended one after the other."""
        size = self._prediction.net.voxel_size[output_of(product)]
        blended = np.empty((self._channels[product], *(roi.shape / size)), np.float32)
        whole = Seam()
        for channel in range(len(blended)):
            blended[channel], seam = self._tiles.blend(roi, size, partial(self._store.read, product, channel))
            whole += seam
        return blended, whole
