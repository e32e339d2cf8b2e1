"""Random contrast and brightness that are the same at every voxel size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite

import numpy as np
from gunpowder import Array, ArrayKey, Batch, BatchFilter, BatchRequest

from scalenet_gp.nodes.random_generator import request_generator

__all__ = ["IntensityAugment"]


class IntensityAugment(BatchFilter):
    """Scale and shift intensities, by one draw for all arrays of a batch.

    Every intensity a becomes ``(a - 1/2) * scale + 1/2 + shift``. The pivot is the middle of the range and not an
    array's mean: arrays of different voxel sizes see different surroundings, and the same intensity has to stay the
    same in all of them. What was drawn is kept as ``array.attrs["intensity"]``: ``{"scale": ..., "shift": ...}`` in
    JSON.

    Args:
        arrays: the intensity arrays, of a float type and with values in [0, 1]. Those not requested are left out.
        scale: bounds of the contrast factor.
        shift: bounds of what is added.
        clip: keep the result in [0, 1]. Without it, values may lie anywhere before and after.
        p: how likely a batch is to be changed at all.

    Raises:
        ValueError: an argument is out of its range; or, for a batch: an array is not of a float type, or has values
            outside [0, 1] although ``clip`` is set.
    """

    def __init__(
        self,
        arrays: Sequence[ArrayKey],
        scale: tuple[float, float] = (1.0, 1.0),
        shift: tuple[float, float] = (0.0, 0.0),
        *,
        clip: bool = True,
        p: float = 1.0,
    ) -> None:
        self.arrays = tuple(arrays)
        if not self.arrays:
            raise ValueError("arrays is empty; name the intensity arrays to change")
        self.scale = _interval("scale", scale)
        self.shift = _interval("shift", shift)
        self.clip = clip
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p!r}; a probability lies between 0 and 1")
        self.p = p

    def setup(self) -> None:
        """Announce which arrays change."""
        self.enable_autoskip()
        for key in self.arrays:
            self.updates(key, self.spec[key])

    def draw(self, generator: np.random.Generator) -> tuple[float, float]:
        """Contrast factor and brightness shift of one batch."""
        return generator.uniform(*self.scale), generator.uniform(*self.shift)

    def process(self, batch: Batch, request: BatchRequest) -> None:
        """Change the intensities of those arrays that are in the batch."""
        generator = request_generator(request, type(self).__name__)
        if generator.random() >= self.p:
            return
        scale, shift = self.draw(generator)
        record = json.dumps({"scale": scale, "shift": shift})
        for key in self.arrays:
            if key in batch:
                array = batch[key]
                self._check(key, array.data)
                data = array.data * scale + (0.5 - 0.5 * scale + shift)
                if self.clip:
                    np.clip(data, 0, 1, out=data)
                batch[key] = Array(data, array.spec, {**array.attrs, "intensity": record})

    def _check(self, key: ArrayKey, data: np.ndarray) -> None:
        if data.dtype.kind != "f":
            raise ValueError(f"{key} is of type {data.dtype}; put a Normalize node before IntensityAugment")
        if self.clip and not (data.min(initial=0) >= 0 and data.max(initial=1) <= 1):
            raise ValueError(
                f"{key} has intensities from {data.min()} to {data.max()}, outside [0, 1]; "
                "put a Normalize node before IntensityAugment, or set clip=False"
            )


def _interval(name: str, interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    if not (isfinite(low) and isfinite(high) and low <= high):
        raise ValueError(f"{name} is {interval!r}; write (low, high) with low <= high")
    return float(low), float(high)
