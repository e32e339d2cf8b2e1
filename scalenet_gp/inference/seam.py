"""The seam between tiles: how much the predictions of neighboring tiles differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Seam"]

_DIGITS = 6
"""Digits of a mean that is reported: the last bits of its sum depend on the processor."""


@final
@dataclass(frozen=True, slots=True)
class Seam:
    """Absolute differences of two predictions of a voxel, by tiles that overlap there.

    They are summed over the overlaps, and over the planes in the middle of the overlaps: tiles that are cut there
    instead of blended would show a step of that height.

    Attributes:
        voxels: number of differences.
        total: their sum.
        largest: the largest one.
        cut_voxels: number of differences in the middle planes.
        cut_total: their sum.
        cut_largest: the largest one.

    Example:
        >>> import numpy as np
        >>> whole = Seam.of(np.array([0.25, 0.5]), np.array([0.5])) + Seam()
        >>> whole.summary()
        {'mean': 0.375, 'max': 0.5, 'cut': {'mean': 0.5, 'max': 0.5}}
    """

    voxels: float = 0
    total: float = 0.0
    largest: float = 0.0
    cut_voxels: float = 0
    cut_total: float = 0.0
    cut_largest: float = 0.0

    @classmethod
    def of(cls, apart: NDArray[np.float64], cut: NDArray[np.float64]) -> Self:
        """Return the seam of some differences; ``cut`` are those of them in the middle planes."""
        numbers = ((part.size, float(part.sum()), float(part.max(initial=0))) for part in (apart, cut))
        return cls(*(number for part in numbers for number in part))

    def __add__(self, other: Seam) -> Seam:
        """Return the seam of the differences of both."""
        return Seam(
            self.voxels + other.voxels,
            self.total + other.total,
            max(self.largest, other.largest),
            self.cut_voxels + other.cut_voxels,
            self.cut_total + other.cut_total,
            max(self.cut_largest, other.cut_largest),
        )

    def to_numbers(self) -> tuple[float, ...]:
        """Return the attributes in their order."""
        return astuple(self)

    @staticmethod
    def sum(seams: Iterable[Iterable[float]]) -> Seam:
        """Return the sum of seams, given as :meth:`to_numbers`, added in their order."""
        whole = Seam()
        for numbers in seams:
            whole += Seam(*map(float, numbers))
        return whole

    def summary(self) -> dict[str, Any]:
        """Return the mean and the largest difference, and those in the middle planes, as plain numbers."""
        return {
            **_figures(self.voxels, self.total, self.largest),
            "cut": _figures(self.cut_voxels, self.cut_total, self.cut_largest),
        }


def _figures(voxels: float, total: float, largest: float) -> dict[str, float]:
    mean = total / voxels if voxels else 0.0
    return {"mean": float(f"{mean:.{_DIGITS}g}"), "max": float(f"{largest:.{_DIGITS}g}")}
