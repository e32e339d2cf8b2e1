"""A volume of any size that takes little disk space, and the augmentation of its samples.

Raw data and labels repeat every 256 voxels of 8 nm, so that the files of equal chunks are links to each other. That
makes reading no faster: every chunk is a file of its own, which is read and decoded.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import gunpowder as gp
import numpy as np
from scipy.ndimage import gaussian_filter

from scalenet_gp.geometry import exact_size
from scalenet_gp.nodes import DeformAugment, IntensityAugment, NoiseAugment
from scalenet_gp.volumes import Level, block_majority, block_mean, create_array, create_group, multiscale_attributes

__all__ = ["CHUNK", "JITTER", "LEVELS", "SPACING", "augment", "write_volume"]

CHUNK = 64
LEVELS = {"s0": 8, "s1": 32, "s2": 128}
"""Voxel size (nm) of every level, by its path."""

SPACING, JITTER = 512, 48
"""Spacing of the control points of the deformation, and the standard deviation of their displacement (nm)."""

_PERIOD = 256


def write_volume(folder: Path, length: int, labels: bool = True) -> None:
    """Write ``raw`` (uint8) and ``labels`` (uint8) into ``folder``, pyramids of 8, 32 and 128 nm.

    Both are OME-Zarr 0.4 (zarr v2, chunks of 64³, blosc-zstd) with gunpowder's attributes besides.

    Args:
        folder: the folder, which must not exist.
        length: nm per axis, a multiple of 64 voxels of 128 nm.
        labels: write labels too.
    """
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    texture = gaussian_filter(generator.standard_normal((_PERIOD,) * 3), 3, mode="wrap")
    fine = gaussian_filter(generator.standard_normal((_PERIOD,) * 3), 0.7, mode="wrap")
    raw = np.clip(120 + 40 * texture / texture.std() + 15 * fine / fine.std(), 0, 255).astype(np.uint8)
    classes = np.digitize(gaussian_filter(texture, 6, mode="wrap"), [-0.005, 0.0, 0.005]).astype(np.uint8)
    volumes = [("raw", raw, block_mean)] + [("labels", classes, block_majority)] * labels
    for name, block, reduce in volumes:
        levels = [
            Level(path, (length // size,) * 3, exact_size([size] * 3), exact_size([0] * 3))
            for path, size in LEVELS.items()
        ]
        create_group(folder / name, multiscale_attributes(name, "zyx", levels, (), block.dtype))
        for level in levels:
            factor = (int(level.voxel_size[0]) // 8,) * 3
            _write_periodic(folder / name / level.path, level.shape[0], reduce(block, factor), int(level.voxel_size[0]))


def augment(raw: Iterable[gp.ArrayKey]) -> gp.Pipeline:
    """Return our nodes that deform all arrays and change the intensities of ``raw``."""
    keys, axes = list(raw), (0, 1, 2)
    return (
        DeformAugment((SPACING,) * 3, (JITTER,) * 3, rotation_axes=axes, mirror_axes=axes, normalize=True)
        + IntensityAugment(keys, scale=(0.9, 1.1), shift=(-0.05, 0.05))
        + NoiseAugment(keys, 0.0005**0.5)
    )


def _write_periodic(path: Path, length: int, block: np.ndarray, voxel_size: int) -> None:
    """Write an array of ``length``³ voxels that repeats ``block``: a few chunks, to which all others are links."""
    array = create_array(path, (length,) * 3, (CHUNK,) * 3, block.dtype)
    array.attrs.update({"resolution": [voxel_size] * 3, "offset": [0] * 3})
    distinct = max(len(block) // CHUNK, 1)
    repeats = -(-distinct * CHUNK // len(block))
    array[(slice(distinct * CHUNK),) * 3] = np.tile(block, (repeats,) * 3)
    for index in itertools.product(range(length // CHUNK), repeat=3):
        original = path.joinpath(*(str(i % distinct) for i in index))
        chunk = path.joinpath(*map(str, index))
        if chunk != original:
            chunk.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(original, chunk)
            except OSError:  # the file has as many links as the file system allows
                shutil.copyfile(original, chunk)
