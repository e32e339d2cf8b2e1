"""The images of `context.py`: cells whose landmark decides the kind of organelles, at a distance that is set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["CHANNELS", "CROP", "PADDING", "VOXEL", "Array", "Images"]

VOXEL = 32  # nm
LANDMARK, ORGANELLE = 400, 110  # radii, nm
CROP = 13  # voxels: an organelle and about 100 nm around it
PADDING = 20480  # nm that images are mirrored by: no network sees farther beyond their borders
CHANNELS = ("organelle of kind 0", "organelle of kind 1", "cell of kind 0", "cell of kind 1")

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Images:
    """Images and labels at one setting of the dial.

    Attributes:
        raw: (image, y, x), about -1 to 1.
        labels: (image, channel, y, x) of :data:`CHANNELS`.
        places: (organelle, 3): image, y and x of the middle of every organelle, in voxels.
        kinds: the kind of every organelle.
    """

    raw: Array
    labels: NDArray[np.uint8]
    places: NDArray[np.int64]
    kinds: NDArray[np.int64]

    @classmethod
    def draw(cls, seed: int, distance: float, count: int, size: int) -> Images:
        """Draw ``count`` images of ``size`` voxels along each axis, whose dial is set to ``distance`` (µm)."""
        drawn = [draw_image(np.random.default_rng([seed, n]), 1000 * distance, size) for n in range(count)]
        places = [np.insert(image[2], 0, n, axis=1) for n, image in enumerate(drawn)]
        raw, labels = (np.stack([image[part] for image in drawn]) for part in (0, 1))
        return cls(raw, labels, np.concatenate(places), np.concatenate([image[3] for image in drawn]))

    def pyramid(self, size: int) -> tuple[Array, NDArray[np.uint8]]:
        """Return raw data and labels for voxels of ``size`` nm, mirrored and empty for :data:`PADDING` around."""
        beyond = [(0, 0)] * 2 + [(PADDING // size,) * 2] * 2
        labels = pool(self.labels.astype(np.float32), size // VOXEL)
        return (
            np.pad(pool(self.raw[:, None], size // VOXEL), beyond, mode="symmetric"),
            np.pad((labels >= 0.5).astype(np.uint8), beyond),
        )


def draw_image(
    rng: np.random.Generator, distance: float, size: int
) -> tuple[Array, NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return raw data, labels, and the places and kinds of organelles; ``distance`` in nm."""
    nearest, farthest = LANDMARK + distance + ORGANELLE, 1.05 * (LANDMARK + distance + ORGANELLE)
    pitch = 2.4 * farthest
    extent = size * VOXEL
    along = int(np.ceil(extent / pitch)) + 2
    corners = np.argwhere(np.ones((along, along))) - 0.5 - rng.uniform(0, 1, 2)
    seeds = (corners + rng.uniform(-0.05, 0.05, corners.shape)) * pitch
    kinds = rng.integers(0, 2, len(seeds))

    place = (np.argwhere(np.ones((size, size))).reshape(size, size, 2) + 0.5) * VOXEL
    away, nearest_two = cKDTree(seeds).query(place, k=2)
    away, cell = np.moveaxis(away, -1, 0), nearest_two[..., 0]

    raw = 0.25 + 0.12 * rng.standard_normal((size, size))
    raw += np.kron(0.1 * rng.standard_normal((-(-size // 4),) * 2), np.ones((4, 4)))[:size, :size]
    raw[away[1] - away[0] < 120] = -0.6
    landmark = away[0] < LANDMARK
    raw[landmark] += np.where(kinds[cell[landmark]] == 0, 0.7, -0.7)

    labels = np.zeros((4, size, size), np.uint8)
    for kind in range(2):
        labels[2 + kind] = kinds[cell] == kind
    places, of_kind = [], []
    for number, seed in enumerate(seeds):
        count = min(12, int(2 * np.pi * nearest / 500))
        angles = 2 * np.pi * (np.arange(count) + rng.uniform(0, 1)) / count
        middles = seed + rng.uniform(nearest, farthest, (count, 1)) * np.stack([np.sin(angles), np.cos(angles)], -1)
        for middle in middles:
            voxel = (middle // VOXEL).astype(int)
            if not (voxel >= CROP).all() or not (voxel < size - CROP).all() or cell[tuple(voxel)] != number:
                continue
            box = tuple(slice(at - CROP // 2, at + CROP // 2 + 1) for at in voxel)
            inside = np.linalg.norm(place[box] - middle, axis=-1) < ORGANELLE
            raw[box][inside] -= 0.55
            labels[kinds[number]][box][inside] = 1
            places.append(voxel)
            of_kind.append(kinds[number])
    return raw.astype(np.float32), labels, np.array(places), np.array(of_kind)


def pool(images: Array, factor: int) -> Array:
    """Return the mean of every square of ``factor`` voxels."""
    *leading, height, width = images.shape
    return images.reshape(*leading, height // factor, factor, width // factor, factor).mean((-1, -3))
