"""Random contrast, brightness and gamma that are the same at every voxel size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import exp, log
from typing import Any, Unpack, final

import numpy as np
import torch
from gunpowder import Array, ArrayKey, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError
from scalenet_gp.nodes.augment.augment import AugmentOptions, DrawnParameters
from scalenet_gp.nodes.augment.random_augment import (
    AugmentArguments,
    RandomAugment,
    as_interval,
    check_intensities,
    writable_data,
)
from scalenet_gp.options import options_of

__all__ = ["Intensity", "IntensityAugment", "IntensityOptions"]


@final
class Intensity(DrawnParameters):
    """The draw of :class:`IntensityAugment`: the contrast factor, the brightness shift and the exponent."""

    scale: float
    shift: float
    gamma: float = 1.0

    def describe(self, unit: float) -> list[str]:
        contrast = [f"contrast {self.scale:.3g}"] if self.scale != 1 else []
        brightness = [f"brightness {self.shift:+.2g}"] if self.shift else []
        return contrast + brightness + ([f"gamma {self.gamma:.3g}"] if self.gamma != 1 else [])


@final
class IntensityAugment(RandomAugment[Intensity]):
    """Scale and shift intensities and change their gamma, by one draw for all arrays of a batch.

    Every intensity a becomes ``(a ** gamma - 1/2) * scale + 1/2 + shift``. The pivot is the middle of the range and not
    an array's mean: arrays of different voxel sizes see different surroundings, and the same intensity has to stay the
    same in all of them. The draw is kept as ``array.attrs["intensity"]``, see :class:`Intensity`.

    After scale and shift, a coarse voxel is still the mean of the fine voxels in it. Gamma and clipping are curved: a
    coarse voxel becomes the gamma of a mean, and not the mean of the gammas. It is too low for a gamma above 1 and too
    high below 1, by at most ``|gamma * (gamma - 1)| / 2 * low ** (gamma - 2) * variance``. The variance is that of the
    fine voxels in it, low is the least of them (the greatest, if gamma is above 2).

    Args:
        arrays: the intensity arrays, of a float type and with values in [0, 1].
        scale: bounds of the contrast factor.
        shift: bounds of the brightness that is added.
        gamma: bounds of the exponent, above 0. It is drawn evenly in its logarithm: 1/2 is as likely as 2.
        clip: keep the result in [0, 1]. Without it, values may lie anywhere after; before too, if gamma is 1.
        arguments: ``p`` and ``replay``, see :class:`RandomAugment`.

    Raises:
        ArgumentError: an argument is out of its range.
        UnknownNameError: when the pipeline is built: an array is not provided upstream.
        DataError: for a batch: an array is not of a float type, or has values outside [0, 1] although ``clip`` is set
            or gamma changes.

    Example:
        >>> import gunpowder as gp
        >>> IntensityAugment([gp.ArrayKey("RAW")], scale=(0.9, 1.1), shift=(-0.05, 0.05)).scale
        (0.9, 1.1)
    """

    record_name = "intensity"
    parameters = Intensity

    def __init__(
        self,
        arrays: Iterable[ArrayKey],
        scale: tuple[float, float] = (1.0, 1.0),
        shift: tuple[float, float] = (0.0, 0.0),
        gamma: tuple[float, float] = (1.0, 1.0),
        *,
        clip: bool = True,
        **arguments: Unpack[AugmentArguments],
    ) -> None:
        super().__init__(arrays, **arguments)
        self.scale = as_interval("scale", scale)
        self.shift = as_interval("shift", shift)
        self.gamma = as_interval("gamma", gamma)
        if self.gamma[0] <= 0:
            raise ArgumentError(f"gamma is {gamma!r}; an exponent has to be above 0")
        self.clip = clip

    def draw(self, generator: np.random.Generator, rois: Mapping[ArrayKey, Roi]) -> Intensity:
        low, high = self.gamma
        return Intensity(
            scale=generator.uniform(*self.scale),
            shift=generator.uniform(*self.shift),
            gamma=low if low == high else exp(generator.uniform(log(low), log(high))),
        )

    def apply(self, key: ArrayKey, array: Array, roi: Roi, drawn: Intensity) -> NDArray[Any]:
        check_intensities(key, array.data, type(self).__name__, bounded=self.clip or drawn.gamma != 1)
        data = writable_data(array)
        if drawn.gamma != 1:
            # torch's logarithm is several times as fast as numpy's power. The logarithm of 0 is -inf, which comes back
            # as 0; values that rounding left below 0 have none, so they are clamped first
            torch.from_numpy(data).clamp_(0, 1).log2_().mul_(drawn.gamma).exp2_()
        if drawn.scale != 1:
            np.multiply(data, drawn.scale, out=data)
        if offset := 0.5 - 0.5 * drawn.scale + drawn.shift:
            np.add(data, offset, out=data)
        if self.clip:
            np.clip(data, 0, 1, out=data)
        return data


IntensityOptions = options_of(IntensityAugment, "intensity", without=("arrays", "replay"), base=AugmentOptions)
