"""The intensity window of a network, applied to raw data as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from scalenet_gp.errors import ArgumentError

__all__ = ["IntensityWindow"]

_SHARE = 0.25
"""Least share of the type's range that a window has if augmentation counts in fractions of that range."""


@dataclass(frozen=True, slots=True)
class IntensityWindow:
    """The stored values of raw data that become -1 and 1 as inputs of a network.

    Augmentation works on fractions of :attr:`bounds`, which hold the window: they are the range of the type where the
    window has a quarter of it or more, and otherwise the window with half its width more on either side. Values beyond
    the bounds count as the bounds, in training and in prediction. Raw data that are converted slab by slab, on the
    device that computes, stay as small as they are stored until then.

    Attributes:
        dtype: type of the raw data.
        low: the stored value that becomes -1.
        high: the stored value that becomes 1.

    Raises:
        ArgumentError: ``low`` is not below ``high``, or one of them is not finite.

    Example:
        >>> import torch
        >>> IntensityWindow(torch.uint8, low=51, high=204).apply(torch.tensor([51, 204], dtype=torch.uint8))
        tensor([-1.0000,  1.0000])
        >>> IntensityWindow(torch.int16, low=-200, high=300).bounds
        (-450.0, 550.0)
    """

    dtype: torch.dtype
    low: float
    high: float

    @classmethod
    def of_range(cls, dtype: torch.dtype) -> IntensityWindow:
        """Return the window that is the whole range of a type of integers; 0 to 1 for floats."""
        return cls(dtype, *_range_of(dtype))

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise ArgumentError(f"low={self.low} and high={self.high} have to be two numbers, the lower one first")

    @property
    def bounds(self) -> tuple[float, float]:
        """The stored values that count as 0 and 1 in augmentation, and beyond which none is seen."""
        least, most = _range_of(self.dtype)
        if least <= self.low and self.high <= most and self.high - self.low >= _SHARE * (most - least):
            return least, most
        margin = (self.high - self.low) / 2
        return self.low - margin, self.high + margin

    @property
    def of_type(self) -> bool:
        """True if fractions are those of the largest value of a type of integers without a sign."""
        return self.dtype in _UNSIGNED and self.bounds == _range_of(self.dtype)

    @property
    def scale(self) -> float:
        """The factor in: input = fraction × scale + shift."""
        low, high = self._fractions
        return 2 / (high - low)

    @property
    def shift(self) -> float:
        """The summand in: input = fraction × scale + shift."""
        low, high = self._fractions
        return -(high + low) / (high - low)

    def apply(self, raw: Tensor) -> Tensor:
        """Return raw data as inputs of a network, float32; NaN stays.

        The steps are those of the training pipeline, one rounding each (gunpowder's ``IntensityScaleShift`` after
        :class:`.ToUnitRange`), so the result is the same to the bit.

        Raises:
            ArgumentError: ``raw`` is of another type.
        """
        if raw.dtype != self.dtype:
            raise ArgumentError(f"the window is for raw data of {self.dtype}, not of {raw.dtype}")
        if self.of_type:
            fractions = raw.to(torch.float32).mul_(1 / _range_of(raw.dtype)[1])
        else:
            least, most = self.bounds
            exact = torch.float64 if self.dtype in _BEYOND_SINGLE else torch.float32
            fractions = raw.to(exact, copy=True).sub_(least).mul_(1 / (most - least)).to(torch.float32).clamp_(0, 1)
        return fractions.mul_(self.scale).add_(self.shift)

    @property
    def _fractions(self) -> tuple[float, float]:
        least, most = self.bounds
        return (self.low - least) / (most - least), (self.high - least) / (most - least)


_UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)

_BEYOND_SINGLE = (torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64)
"""Types with numbers that single precision would round before the least bound is taken from them."""


def _range_of(dtype: torch.dtype) -> tuple[float, float]:
    """Return the lowest and the highest value of a type of integers; 0 and 1 for floats and booleans."""
    if dtype.is_floating_point or dtype == torch.bool:
        return 0.0, 1.0
    return float(torch.iinfo(dtype).min), float(torch.iinfo(dtype).max)
