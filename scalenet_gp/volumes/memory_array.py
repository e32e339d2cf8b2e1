"""Arrays in memory that are read like stored ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, final

import numpy as np

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length, exact_size, format_size
from scalenet_gp.volumes.metadata import Level, VolumeMetadata, consistent_levels

__all__ = ["MemoryArray", "describe_arrays"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class MemoryArray:
    """Voxels in memory. Reading returns a copy.

    Args:
        voxels: (channel, z, y, x), or without the channel axis.
    """

    voxels: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.voxels.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.voxels.dtype

    def start(self, box: Sequence[slice]) -> Callable[[], np.ndarray]:
        return self.voxels[tuple(box)].copy


def describe_arrays(
    name: str,
    arrays: Sequence[np.ndarray],
    voxel_sizes: Sequence[Iterable[Length]],
    corner: Iterable[Length] | None,
) -> VolumeMetadata:
    """The metadata of a volume of arrays in memory: see :meth:`.MultiscaleImage.from_arrays`.

    Raises:
        ValueError: no arrays, or arrays and voxel sizes that do not fit each other.
    """
    sizes = [exact_size(size) for size in voxel_sizes]
    dims = len(sizes[0]) if sizes else 0
    begin = exact_size(corner) if corner is not None else (Fraction(0),) * dims
    if len(arrays) != len(sizes) or dims not in (2, 3) or len(begin) != dims:
        raise ArgumentError(
            f"{name}: {len(arrays)} arrays, {len(sizes)} voxel sizes and a corner of {len(begin)} axes; every array "
            "has to have a voxel size of 2 or 3 axes, as the corner has"
        )
    first = arrays[0]
    for array, size in zip(arrays, sizes, strict=True):
        alike = array.dtype == first.dtype and array.shape[:-dims] == first.shape[:-dims]
        if len(size) != dims or min(size) <= 0 or array.ndim - dims not in (0, 1) or not alike:
            raise ArgumentError(
                f"{name}: an array of {array.dtype}, shape {array.shape}, and voxels of {format_size(size)} nm next to "
                f"one of {first.dtype}, shape {first.shape}, and voxels of {format_size(sizes[0])} nm; they have to "
                "have the same axes, channels and dtype, and positive voxel sizes"
            )
    levels = tuple(
        Level(f"s{index}", array.shape[-dims:], size, begin)
        for index, (array, size) in enumerate(zip(arrays, sizes, strict=True))
    )
    channels = first.shape[0] if first.ndim > dims else None
    axes = ("z", "y", "x")[-dims:]
    checked = consistent_levels(name, lambda _: levels, "corner")
    return VolumeMetadata(axes, channels, first.dtype, checked, tuple(map(MemoryArray, arrays)))
