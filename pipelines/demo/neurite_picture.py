"""The picture of neurites that an electron microscope would take: membranes, cytoplasm and organelles.

All lengths are in nanometres; Z Y X are voxels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalenet_gp.pipelines.demo.growth import STEP, Neurites, unit
from scalenet_gp.pipelines.demo.textures import Array, scan, smooth_noise

__all__ = ["MEMBRANE_HALF_WIDTH", "draw_neuropil"]

MEMBRANE_HALF_WIDTH = 18
"""The membrane of a neurite reaches so deep below its wall."""

BLUR = 11
MITOCHONDRION_RADII = (60, 125)
MITOCHONDRION_BALLS = (5, 16)
MITOCHONDRION_SPACING = 330
CRISTAE = 82
MITOCHONDRION_RIM = 20

MITOCHONDRION_DEPTH = 9  # below the membrane

Numbers = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Mitochondrion:
    """A tube: ``points`` along it (nm), its ``radius`` (nm), and the number of the ``neurite`` that it lies in."""

    points: NDArray[np.float64]
    radius: float
    neurite: int


def draw_neuropil(
    neurites: Neurites, number: Numbers, wall: Array, voxel_size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the picture of neurites.

    Args:
        neurites: the tubes that organelles lie in.
        number: the neurite of each voxel, from 1 on.
        wall: depth of each voxel below the wall of its neurite.
        voxel_size: edge of a voxel.
        rng: source of random numbers.
    """
    from scipy.ndimage import gaussian_filter

    shape = number.shape
    cytoplasm = 150 + 7 * rng.standard_normal(int(number.max()) + 1, np.float32)
    image = cytoplasm[number]
    image += 9 * smooth_noise(rng, shape, voxel_size, 60)
    image += 9 * rng.standard_normal(shape, np.float32)
    reticulum = np.abs(smooth_noise(rng, shape, voxel_size, 150)) < 0.1
    reticulum &= smooth_noise(rng, shape, voxel_size, 420) > 0.7
    reticulum &= wall > 3 * MEMBRANE_HALF_WIDTH
    image[reticulum] -= 35
    darken(image, microtubules(neurites, rng), voxel_size, 32)
    around = np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)]) * voxel_size
    darken(image, (vesicles(neurites, rng)[:, None] + around).reshape(-1, 3), voxel_size, 48)
    for mitochondrion in place_mitochondria(neurites, rng):
        draw_mitochondrion(image, mitochondrion, number, wall, voxel_size, rng)
    # the contrast of membranes varies from place to place
    contrast = np.clip(0.8 + 0.25 * smooth_noise(rng, shape, voxel_size, 300), 0.35, 1)
    membrane = wall < MEMBRANE_HALF_WIDTH
    image[membrane] -= (contrast * (image - 62))[membrane]
    synapses = (wall < 2 * MEMBRANE_HALF_WIDTH) & (smooth_noise(rng, shape, voxel_size, 180) > 2.6)
    image[synapses] = 58
    return scan(gaussian_filter(image, BLUR / voxel_size, radius=-(-2 * BLUR // voxel_size)), rng, voxel_size)


def darken(image: Array, positions: NDArray[np.float64], voxel_size: int, by: float) -> None:
    """Make the voxels at positions darker, each once."""
    voxels = np.floor(positions / voxel_size).astype(int)
    voxels = voxels[((voxels >= 0) & (voxels < image.shape)).all(axis=1)]
    image.reshape(-1)[np.unique(np.ravel_multi_index(tuple(voxels.T), image.shape))] -= by


def microtubules(neurites: Neurites, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return positions along lines within tubes, more of them in wide ones."""
    branch = np.cumsum(neurites.begins, dtype=np.int64)
    lines = []
    for part in runs(branch):
        positions, radii = neurites.positions[part], neurites.radii[part, None]
        for _ in range(1 + int(radii.mean() // 25)):
            aside = unit(np.cross(neurites.directions[part], rng.standard_normal(3)))
            line = positions + rng.uniform(0, 0.8) * (radii + 10) * aside
            along = np.linspace(0, 1, STEP // 6)[:, None, None]
            lines.append((line[:-1] + along * np.diff(line, axis=0)).reshape(-1, 3))
    return np.concatenate(lines)


def vesicles(neurites: Neurites, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return positions of vesicles, in clusters in some places of tubes that are not too thin."""
    here = rng.random(len(neurites.radii)) < 0.03
    cluster = np.convolve(here, np.ones(8))[: len(here)] > 0
    hosts = np.flatnonzero(cluster & (neurites.radii > 25))
    host = np.repeat(hosts, rng.poisson(np.minimum((neurites.radii[hosts] / 15) ** 2, 40)))
    away = unit(rng.standard_normal((len(host), 3))) * rng.random((len(host), 1)) ** (1 / 3)
    return neurites.positions[host] + away * (neurites.radii[host, None] + 15)


def place_mitochondria(neurites: Neurites, rng: np.random.Generator) -> Iterator[Mitochondrion]:
    """Place mitochondria along wide tubes, apart from each other."""
    branch = np.cumsum(neurites.begins, dtype=np.int64)
    taken = np.full((1, 3), np.inf)
    for first in np.flatnonzero((rng.random(len(branch)) < 0.035) & (neurites.radii > 55)):
        part = np.arange(first, min(int(first + rng.integers(*MITOCHONDRION_BALLS)), len(branch)))
        part = part[branch[part] == branch[first]]
        narrowest = float(neurites.radii[part].min())
        radius = min(rng.uniform(*MITOCHONDRION_RADII), 0.75 * (narrowest + 40))
        aside = unit(np.cross(neurites.directions[first], rng.standard_normal(3)))
        points = neurites.positions[part] + rng.uniform(0, 0.9) * max(0.0, narrowest + 25 - radius) * aside
        apart = np.linalg.norm(taken - points[:, None], axis=-1).min()
        if len(part) >= MITOCHONDRION_BALLS[0] and apart > MITOCHONDRION_SPACING:
            taken = np.concatenate([taken, points])
            yield Mitochondrion(points, radius, int(neurites.numbers[first]) + 1)


def draw_mitochondrion(
    image: Array, mitochondrion: Mitochondrion, number: Numbers, wall: Array, voxel_size: int, rng: np.random.Generator
) -> None:
    """Draw a mitochondrion: a dark rim, and cristae."""
    points, radius = mitochondrion.points, mitochondrion.radius
    begin = np.clip((points.min(0) - radius) // voxel_size, 0, image.shape).astype(int)
    end = np.clip((points.max(0) + radius) // voxel_size + 1, begin, image.shape).astype(int)
    if (begin == end).any():
        return
    box = tuple(map(slice, begin, end))
    grid = [(line + 0.5) * voxel_size for line in np.ogrid[box]]
    away = np.full(tuple(end - begin), np.inf, np.float32)
    along = np.linspace(0, 1, 3, endpoint=False)[:, None, None]
    for point in (points[:-1] + along * np.diff(points, axis=0)).reshape(-1, 3):
        z, y, x = ((line - middle) ** 2 for line, middle in zip(grid, point, strict=True))
        np.minimum(away, z + y + x, out=away)
    away = np.sqrt(away)
    depth = np.where(number[box] == mitochondrion.neurite, wall[box], 0) - MEMBRANE_HALF_WIDTH
    inside = (away < radius) & (depth > MITOCHONDRION_DEPTH)
    turn = unit(rng.standard_normal(3)) * 2 * np.pi / CRISTAE
    phase = grid[0] * turn[0] + grid[1] * turn[1] + grid[2] * turn[2]
    matrix = 104 + 18 * np.sin(phase + 2 * smooth_noise(rng, away.shape, voxel_size, 120))
    rim = (away > radius - MITOCHONDRION_RIM) | (depth < MITOCHONDRION_DEPTH + MITOCHONDRION_RIM)
    image[box][inside] = np.where(rim, 72, matrix)[inside]


def runs(values: NDArray[np.int64]) -> Iterator[slice]:
    """Yield each part of a rising sequence that has one value."""
    borders = [0, *(np.flatnonzero(np.diff(values)) + 1), len(values)]
    for first, last in itertools.pairwise(borders):
        yield slice(int(first), int(last))
