"""What a network is shown of raw data as they are stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scalenet_gp.errors import ArgumentError

__all__ = ["IntensityWindow"]


@dataclass(frozen=True, slots=True)
class IntensityWindow:
    """Which intensities of raw data a network sees as -1 and 1.

    Raw data that are shown slab by slab, on the device that computes, stay as small as they are stored until then.

    Attributes:
        dtype: of the raw data. Integers count as fractions of what it can hold, floats as they are.
        low: what is seen as -1.
        high: what is seen as 1.
    """

    dtype: torch.dtype
    low: float = 0.0
    high: float = 1.0

    @property
    def scale(self) -> float:
        """What is seen = fraction × scale + shift."""
        return 2 / (self.high - self.low)

    @property
    def shift(self) -> float:
        """See :attr:`scale`."""
        return -(self.high + self.low) / (self.high - self.low)

    def apply(self, raw: Tensor) -> Tensor:
        """What the network sees: float32 of integers, else of the type of the raw data. What is no number stays so.

        The steps are those of :class:`.ToUnitRange` and gunpowder's ``IntensityScaleShift``, one rounding each, so that
        it is to the bit what the network was trained on.

        Raises:
            ValueError: ``raw`` is of another type.
        """
        if raw.dtype != self.dtype:
            raise ArgumentError(f"the raw data are said to be {self.dtype}, and are {raw.dtype}")
        if raw.is_floating_point():
            scale, shift = (torch.tensor(number, dtype=raw.dtype) for number in (self.scale, self.shift))
            return (raw * scale).add_(shift)
        largest = 1 if raw.dtype == torch.bool else torch.iinfo(raw.dtype).max
        return raw.to(torch.float32).mul_(1 / largest).mul_(self.scale).add_(self.shift)
