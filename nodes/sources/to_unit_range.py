"""A node that turns integers into fractions of the range of their type."""

from __future__ import annotations

from typing import final

import gunpowder as gp
import numpy as np

__all__ = ["ToUnitRange"]


@final
class ToUnitRange(gp.BatchFilter):
    """Turn integers into float32 fractions of the largest value of their type (255 for uint8). Floats stay.

    It does what :class:`.DeformAugment` does with ``normalize=True``, without deforming. Unlike gunpowder's
    ``Normalize`` it knows every type of integers, and lets floats beyond [0, 1] and NaN pass.

    Args:
        keys: the arrays.

    Example:
        >>> import gunpowder as gp
        >>> ToUnitRange(gp.ArrayKey("RAW")).keys
        (RAW,)
    """

    def __init__(self, *keys: gp.ArrayKey) -> None:
        self.keys = keys

    def setup(self) -> None:
        self.enable_autoskip()
        for key in self.keys:
            spec = self.spec[key].copy()
            if spec.dtype is not None and np.dtype(spec.dtype).kind in "iu":
                spec.dtype = np.dtype(np.float32)
            self.updates(key, spec)

    def prepare(self, request: gp.BatchRequest) -> gp.BatchRequest:
        needed = gp.BatchRequest()
        for key in self.keys:
            if key in request:
                needed[key] = request[key].copy()
                needed[key].dtype = None  # downstream may ask for what this node makes of it
        return needed

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> None:
        for key in self.keys:
            if key not in batch.arrays or batch[key].data.dtype.kind not in "iu":
                continue
            array = batch[key]
            largest = np.iinfo(array.data.dtype).max
            array.data = array.data.astype(np.float32) * np.float32(1 / largest)
            array.spec.dtype = array.data.dtype
