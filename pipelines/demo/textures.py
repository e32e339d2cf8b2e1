"""Textures that generated recordings share: random fields, their interpolation, and the noise of a microscope."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "interpolate", "scan", "smooth_noise"]

Array = NDArray[np.float32]


def interpolate(field: Array) -> Array:
    """Return a field at voxels of half the size, linearly interpolated; the outermost values are continued."""
    for axis in range(field.ndim):
        fine = field.repeat(2, axis)
        at = [slice(None)] * field.ndim

        def part(array: Array, *bounds: int | None, at: list[slice] = at, axis: int = axis) -> Array:
            return array[(*at[:axis], slice(*bounds), *at[axis + 1 :])]

        step = np.diff(field, axis=axis)
        step *= 0.25
        part(fine, 1, -1, 2)[...] += step
        part(fine, 2, None, 2)[...] -= step
        field = fine
    return field


def scan(image: Array, rng: np.random.Generator, voxel_size: int) -> NDArray[np.uint8]:
    """Return the image with uneven staining, slices of uneven brightness, curtains of the ion beam, and shot noise."""
    shape = image.shape
    image = image * (1 + 0.04 * smooth_noise(rng, shape, voxel_size, 2500))
    image += 1.5 * rng.standard_normal((shape[0], 1, 1), np.float32)
    image += 1.5 * smooth_noise(rng, (shape[0], 1, shape[2]), voxel_size, 2 * voxel_size)
    image += 8 * rng.standard_normal(shape, np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], voxel_size: int, length: float) -> Array:
    """Return a Gaussian random field of mean 0 and variance 1 everywhere, that varies over ``length`` nm."""
    knots = [int(np.ceil(voxels * voxel_size / length)) + 4 for voxels in shape]
    field = rng.standard_normal(knots, np.float32)
    for voxels, count in zip(shape, knots, strict=True):
        distance = (np.arange(voxels)[:, None] + 0.5) * voxel_size / length - (np.arange(count) - 1.5)
        weights = np.exp(-0.5 * (distance / 0.7) ** 2)
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        # Contracts the first axis and puts the voxels last: after all axes, the order is as at the start.
        field = np.tensordot(field, weights.astype(np.float32), axes=(0, 1))
    return field
