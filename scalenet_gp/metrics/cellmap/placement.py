"""Predictions on the lattice of the truth, where the challenge puts them: with its roundings, in floating point.

These are the challenge's own and differ from those of :mod:`scalenet_gp.volumes`: offsets are cut to whole voxels, a
volume is resampled about its middle by the ratio of the shapes, and space outside of it is 0. A prediction that lies on
the lattice of the truth to begin with is not changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalenet_gp.errors import ArgumentError

__all__ = ["CropGrid", "closest_level", "place_on_grid"]


@dataclass(frozen=True, slots=True)
class CropGrid:
    """The lattice of a crop, as the challenge states it.

    Attributes:
        voxel_size: nm, (z, y, x).
        translation: the position of the first voxel, nm.
        shape: voxels.

    Raises:
        ArgumentError: another number of axes, or a size that is not positive.

    Example:
        >>> CropGrid((5.24, 4, 4), (183.4, 0, 0), (24, 28, 32)).shift((183.4, 0, 0))
        (-1, 0, 0)
    """

    voxel_size: tuple[float, ...]
    translation: tuple[float, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.voxel_size) == len(self.translation) == len(self.shape):
            raise ArgumentError(
                f"voxel size {self.voxel_size}, translation {self.translation} and shape {self.shape} have to have the "
                "same number of axes"
            )
        if min(self.voxel_size) <= 0 or min(self.shape) <= 0:
            raise ArgumentError(f"voxel size {self.voxel_size} and shape {self.shape} have to be positive")

    def shift(self, translation: Sequence[float]) -> tuple[int, ...]:
        """Return the voxel of this lattice at which the challenge puts the first voxel of a prediction.

        Rounding may move a prediction by one voxel, even if its translation is that of the crop.
        """
        shifts = []
        for position, size, own in zip(translation, self.voxel_size, self.translation, strict=True):
            apart = (position // size) * size - own
            shifts.append(int(math.copysign(abs(apart) // size, apart)))
        return tuple(shifts)


def place_on_grid(
    prediction: np.ndarray,
    grid: CropGrid,
    voxel_size: Sequence[float] | None = None,
    translation: Sequence[float] | None = None,
    *,
    instances: bool,
) -> np.ndarray:
    """Return a prediction on the lattice of a crop, 0 where it does not reach.

    Args:
        prediction: ids, or values of a semantic class, (z, y, x).
        grid: the lattice of the crop.
        voxel_size: of the prediction, nm. None if it states none; a shape that differs is then padded or cut about
            the middle.
        translation: the position of its first voxel, nm; that of the crop if None.
        instances: the values are ids, of which the nearest is taken. Values of a semantic class are smoothed and
            interpolated, and become 1 above 0.5.

    Returns:
        The values in the shape of the crop. They are boolean if a semantic class was resampled.

    Example:
        >>> grid = CropGrid((8, 8, 8), (0, 0, 0), (1, 2, 2))
        >>> place_on_grid(np.arange(32).reshape(2, 4, 4), grid, (4, 4, 4), instances=True).tolist()
        [[[21, 23], [29, 31]]]
    """
    if voxel_size is not None and not np.allclose(voxel_size, grid.voxel_size):
        prediction = _resample(prediction, voxel_size, grid.voxel_size, instances)
    elif voxel_size is None and prediction.shape != grid.shape:
        prediction = _centre(prediction, grid.shape)
    shift = (0,) * prediction.ndim if translation is None else grid.shift(translation)
    if prediction.shape == grid.shape and not any(shift):
        return prediction
    placed = np.zeros(grid.shape, prediction.dtype)
    to, of = [], []
    for begin, length, end in zip(shift, prediction.shape, grid.shape, strict=True):
        first, last = max(begin, 0), min(begin + length, end)
        to.append(slice(first, max(first, last)))
        of.append(slice(first - begin, max(first, last) - begin))
    placed[tuple(to)] = prediction[tuple(of)]
    return placed


def closest_level(voxel_sizes: Sequence[Sequence[float]], wanted: Sequence[float], *, finer: bool = False) -> int:
    """Return the index of the level that the challenge reads from a group of levels.

    Args:
        voxel_sizes: of the levels, nm.
        wanted: the voxel size of the crop, nm.
        finer: take the nearest of the levels that are not coarser on any axis, if there are such. The challenge does so
            for groups without OME-Zarr metadata. Otherwise the relative differences count.

    Example:
        >>> sizes = [(4, 4, 4), (10, 10, 10)]
        >>> closest_level(sizes, (8, 8, 8)), closest_level(sizes, (8, 8, 8), finer=True)
        (1, 0)
    """
    sizes, aim = np.asarray(voxel_sizes, float), np.asarray(wanted, float)
    if not finer:
        return int(np.argmin((np.abs(sizes - aim) / aim).sum(axis=1)))
    distances = np.linalg.norm(sizes - aim, axis=1)
    fine = (sizes <= aim).all(axis=1)
    return int(np.argmin(np.where(fine, distances, np.inf) if fine.any() else distances))


def _resample(values: np.ndarray, voxel_size: Sequence[float], wanted: Sequence[float], instances: bool) -> np.ndarray:
    shape = tuple(
        max(round(length * size / other), 1)
        for length, size, other in zip(values.shape, voxel_size, wanted, strict=True)
    )
    if instances:
        for axis, (length, new) in enumerate(zip(values.shape, shape, strict=True)):
            values = values.take(np.floor((np.arange(new) + 0.5) * (length / new)).astype(int), axis)
        return values
    from skimage.transform import resize  # slow to import

    smooth = any(new < length for new, length in zip(shape, values.shape, strict=True))
    placed = resize(
        values.astype(np.float32),
        shape,
        order=1,
        mode="constant",
        cval=0,
        anti_aliasing=smooth,
        preserve_range=True,
        clip=False,
    )
    return placed > 0.5


def _centre(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return values padded with 0, or cut, about the middle; an odd voxel is added or cut at the end."""
    pads = [
        (max(new - old, 0) // 2, max(new - old, 0) - max(new - old, 0) // 2)
        for old, new in zip(values.shape, shape, strict=True)
    ]
    cuts = [max(old - new, 0) // 2 for old, new in zip(values.shape, shape, strict=True)]
    cut = values[tuple(slice(begin, begin + new) for begin, new in zip(cuts, shape, strict=True))]
    return np.pad(cut, pads)
