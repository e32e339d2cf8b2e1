"""The intensity window of a network, applied to raw data as they are stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scalenet_gp.errors import ArgumentError

__all__ = ["IntensityWindow"]


@dataclass(frozen=True, slots=True)
class IntensityWindow:
    """The intensities of raw data that become -1 and 1 as inputs of a network.

    Raw data that are converted slab by slab, on the device that computes, stay as small as they are stored until then.

    Attributes:
        dtype: type of the raw data. Integers count as fractions of the largest value of the type, floats as they are.
        low: the intensity that becomes -1.
        high: the intensity that becomes 1.

    Example:
        >>> import torch
        >>> IntensityWindow(torch.uint8, low=0.2, high=0.8).apply(torch.tensor([51, 204], dtype=torch.uint8))
        tensor([-1.0000,  1.0000])
    """

    dtype: torch.dtype
    low: float = 0.0
    high: float = 1.0

    @property
    def scale(self) -> float:
        """The factor in: input = fraction × scale + shift."""
        return 2 / (self.high - self.low)

    @property
    def shift(self) -> float:
        """The summand in: input = fraction × scale + shift."""
        return -(self.high + self.low) / (self.high - self.low)

    def apply(self, raw: Tensor) -> Tensor:
        """Return raw data as inputs of a network: float32 for integers, else of the type of the raw data; NaN stays.

        The steps are those of the training pipeline, one rounding each (gunpowder's ``IntensityScaleShift`` after a
        division by the largest value), so the result is the same to the bit.

        Raises:
            ArgumentError: ``raw`` is of another type.
        """
        if raw.dtype != self.dtype:
            raise ArgumentError(f"the window is for raw data of {self.dtype}, not of {raw.dtype}")
        if raw.is_floating_point():
            scale, shift = (torch.tensor(number, dtype=raw.dtype) for number in (self.scale, self.shift))
            return (raw * scale).add_(shift)
        largest = 1 if raw.dtype == torch.bool else torch.iinfo(raw.dtype).max
        return raw.to(torch.float32).mul_(1 / largest).mul_(self.scale).add_(self.shift)
