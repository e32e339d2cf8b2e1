"""The label volume of one class, and the meaning of its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.volumes.multiscale_image import MultiscaleImage

__all__ = ["ClassVolume"]


@final
@dataclass(frozen=True, slots=True)
class ClassVolume:
    """A label volume that shows where a class is present, absent or unknown.

    A voxel of any other value is unknown, too: for example -1, if positive labels mark the class.

    Args:
        volume: the labels, of one channel; None if the class is unknown everywhere.
        absent: the value of voxels without the class. None if no value says so.
        present: the value of voxels of the class; by default every positive value that ``absent`` and ``unknown`` do
            not name.
        unknown: the value of voxels that are not annotated. None if all are.

    Raises:
        ArgumentError: one value for two meanings, or a volume that may be resampled.
        VolumeFormatError: a volume of several channels.

    Example:
        >>> import numpy as np
        >>> present, known = ClassVolume(None, absent=0, unknown=255).read(np.array([0, 3, 255]))
        >>> present.tolist(), known.tolist()
        ([False, True, False], [True, True, False])
    """

    volume: MultiscaleImage | None
    absent: int | None = 0
    present: int | None = None
    unknown: int | None = None

    def __post_init__(self) -> None:
        meanings = {"absent": self.absent, "present": self.present, "unknown": self.unknown}
        values = [value for value in meanings.values() if value is not None]
        if len(set(values)) < len(values):
            raise ArgumentError(f"one value stands for two of {meanings}; they have to differ")
        if self.volume is not None:
            self.volume.check_labels()
        if self.volume is not None and self.volume.channels > 1:
            raise VolumeFormatError(
                f"{self.volume.path}: the label volume of a class has one channel, not {self.volume.channels}"
            )

    def read(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return two boolean arrays of the shape of ``values``: the class is present, and it is present or absent."""
        if self.present is not None:
            present = values == self.present
        else:
            present = values > 0
            for value in (self.absent, self.unknown):
                if value is not None and value > 0:
                    present &= values != value
        return present, present if self.absent is None else present | (values == self.absent)
