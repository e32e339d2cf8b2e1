"""The label volume of one class, and the meaning of its values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.volumes.multiscale_image import MultiscaleImage

__all__ = ["ClassVolume"]

_FEW = 8
"""Number of values that are compared one by one, which is faster than ``np.isin``."""


@final
@dataclass(frozen=True, slots=True)
class ClassVolume:
    """A label volume that shows where a class is present, absent or unknown.

    A voxel of any other value is unknown, too: for example -1, if positive labels mark the class.

    Args:
        volume: the labels, of one channel; None if the class is unknown everywhere.
        absent: the value of voxels without the class; ``"others"`` for every value that ``present`` and ``unknown`` do
            not name, as in a volume of the ids of many classes. None if no value says so.
        present: the value of voxels of the class, or several; by default every positive value that ``absent`` and
            ``unknown`` do not name.
        unknown: the value of voxels that are not annotated, or several. None if all are.

    Raises:
        ArgumentError: one value for two meanings.
        VolumeFormatError: a volume of several channels.

    Example:
        >>> import numpy as np
        >>> present, known = ClassVolume(None, absent=0, unknown=255).read(np.array([0, 3, 255]))
        >>> present.tolist(), known.tolist()
        ([False, True, False], [True, True, False])
        >>> present, known = ClassVolume(None, "others", present=(3, 4), unknown=0).read(np.array([0, 3, 4, 5]))
        >>> present.tolist(), known.tolist()
        ([False, True, True, False], [False, True, True, True])
    """

    volume: MultiscaleImage | None
    absent: int | Literal["others"] | None = 0
    present: int | Collection[int] | None = None
    unknown: int | Collection[int] | None = None

    def __post_init__(self) -> None:
        meanings = {"absent": self.absent, "present": self.present, "unknown": self.unknown}
        values = [value for meaning in meanings.values() if meaning != "others" for value in _values(meaning)]
        if len(set(values)) < len(values):
            raise ArgumentError(f"one value stands for two of {meanings}; they have to differ")
        if self.absent == "others" and self.present is None:
            raise ArgumentError("absent='others' says what is not of the class, so present has to say what is")
        if self.volume is not None and self.volume.channels > 1:
            raise VolumeFormatError(
                f"{self.volume.path}: the label volume of a class has one channel, not {self.volume.channels}"
            )

    def read(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return two boolean arrays of the shape of ``values``: the class is present, and it is present or absent."""
        unknown = _values(self.unknown)
        if self.present is not None:
            present = _among(values, _values(self.present))
        else:
            present = values > 0
            for value in (*_values(None if self.absent == "others" else self.absent), *unknown):
                if value > 0:
                    present &= values != value
        if self.absent == "others":
            return present, ~_among(values, unknown)
        return present, present if self.absent is None else present | (values == self.absent)


def _values(meaning: int | Collection[int] | str | None) -> tuple[int, ...]:
    """Return the values that a meaning has."""
    if meaning is None or isinstance(meaning, str):
        return ()
    return (meaning,) if isinstance(meaning, int) else tuple(meaning)


def _among(values: np.ndarray, chosen: tuple[int, ...]) -> np.ndarray:
    """Return True where a value is one of those chosen."""
    if len(chosen) > _FEW:
        return np.isin(values, chosen)
    found = np.zeros(values.shape, dtype=bool)
    for value in chosen:
        found |= values == value
    return found
