"""A node that turns stored values into fractions of a range."""

from __future__ import annotations

from math import isfinite
from typing import final

import gunpowder as gp
import numpy as np

from scalenet_gp.errors import ArgumentError

__all__ = ["ToUnitRange"]


@final
class ToUnitRange(gp.BatchFilter):
    """Turn stored values into float32 fractions: of the largest value of the type, or of the range between two bounds.

    Without bounds, integers become fractions of the largest value of their type (255 for uint8), and floats stay. That
    is what :class:`.DeformAugment` does with ``normalize=True``, without deforming. With bounds, numbers of any type
    become fractions of the range between them, and values beyond are those of the bounds; NaN stays.

    Args:
        keys: the arrays.
        bounds: the stored values that become 0 and 1.

    Raises:
        ArgumentError: the bounds are not two numbers, the lower one first.

    Example:
        >>> import gunpowder as gp
        >>> ToUnitRange(gp.ArrayKey("RAW"), bounds=(-450, 550)).keys
        (RAW,)
    """

    def __init__(self, *keys: gp.ArrayKey, bounds: tuple[float, float] | None = None) -> None:
        self.keys = keys
        self.bounds = bounds
        if bounds is not None and not (isfinite(bounds[0]) and isfinite(bounds[1]) and bounds[0] < bounds[1]):
            raise ArgumentError(f"bounds={bounds} have to be two numbers, the lower one first")

    def setup(self) -> None:
        self.enable_autoskip()
        for key in self.keys:
            spec = self.spec[key].copy()
            if self.bounds is not None or (spec.dtype is not None and np.dtype(spec.dtype).kind in "iu"):
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
            if key not in batch.arrays:
                continue
            array = batch[key]
            if self.bounds is not None:
                array.data = _fractions(array.data, *self.bounds)
            elif array.data.dtype.kind in "iu":
                array.data = array.data.astype(np.float32) * np.float32(1 / np.iinfo(array.data.dtype).max)
            array.spec.dtype = array.data.dtype


def _fractions(data: np.ndarray, low: float, high: float) -> np.ndarray:
    whole = data.dtype.kind in "iu" and data.dtype.itemsize > 2
    # single precision would round these before the bound is taken from them
    exact = np.dtype(np.float64 if whole or data.dtype == np.float64 else np.float32)
    spread: np.ndarray = data.astype(exact)
    spread -= exact.type(low)
    spread *= exact.type(1 / (high - low))
    return np.clip(spread.astype(np.float32), 0, 1)
