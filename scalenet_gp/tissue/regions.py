"""From the texture of cells to regions of tissue."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from scipy import ndimage

from scalenet_gp.tissue.options import TextureOptions
from scalenet_gp.tissue.threshold import texture_threshold

__all__ = ["is_tissue", "tissue_confidence", "tissue_evidence"]

_STEEPNESS = 2  # of confidence: the power of the texture that it goes with
_CERTAIN = 5.0  # evidence: that of blank voxels against tissue, and the most that counts
_QUIETEST = 0.05  # the share of cells, those of least noise, whose noise is taken for that of resin


def tissue_evidence(cells: np.ndarray, options: TextureOptions, shape: Sequence[int]) -> np.ndarray:
    """How far every cell is above the threshold of tissue, after small regions and holes were removed.

    Args:
        cells: what :func:`.cell_texture` gives of the whole volume.
        options: how to look.
        shape: of the volume, voxels.

    Returns:
        (z, y, x) or (y, x), float32, in cells: the log of the ratio of texture to threshold, above 0 where there is
        tissue.
    """
    energy, noise, share, blank = cells
    weight = _windowed(share, options.window)
    known = weight > 0
    if not known.any():
        return np.full(share.shape, -_CERTAIN, np.float32)
    total = np.where(known, weight, 1)
    energy, noise = (_windowed(logs * share, options.window) / total for logs in (energy, noise))
    quietest = np.quantile(noise[known], _QUIETEST)
    texture = energy - (2 * noise + quietest) / 3
    evidence = np.where(known, texture - texture_threshold(texture[known]), -_CERTAIN)
    tissue = _tidied(evidence > 0, options, shape) & (blank < 0.5)
    certainty = np.clip(np.abs(evidence), np.finfo(np.float32).eps, _CERTAIN)
    certainty[blank >= 0.5] = _CERTAIN
    return np.where(tissue, certainty, -certainty).astype(np.float32)


def tissue_confidence(
    evidence: np.ndarray, options: TextureOptions, begin: Sequence[int], shape: Sequence[int]
) -> np.ndarray:
    """The confidence of a box of voxels, from the evidence of the cells of the whole volume.

    Evidence is interpolated linearly between the middles of cells.

    Args:
        evidence: what :func:`tissue_evidence` gives.
        options: the same.
        begin: the first voxel.
        shape: voxels.

    Returns:
        float32 in [0, 1]: see :func:`is_tissue`.
    """
    for axis, (first, count) in enumerate(zip(begin, shape, strict=True)):
        last = evidence.shape[axis] - 1
        place = np.clip((np.arange(first, first + count) + 0.5) / options.cell - 0.5, 0, last)
        below = place.astype(int)
        above = np.minimum(below + 1, last)
        part = (place - below).astype(np.float32)
        part = part.reshape([-1 if a == axis else 1 for a in range(evidence.ndim)])
        evidence = evidence.take(below, axis) * (1 - part) + evidence.take(above, axis) * part
    return np.asarray(1 / (1 + np.exp(-_STEEPNESS * evidence)), np.float32)


def is_tissue(confidence: np.ndarray) -> np.ndarray:
    """The mask: where tissue is likelier than resin."""
    return confidence > 0.5


def _windowed(values: np.ndarray, window: int) -> np.ndarray:
    """The mean over the window around every cell, mirrored at the volume's faces.

    An even number of cells is centred on a cell by halves of cells at both ends.
    """
    weights = np.ones(window // 2 * 2 + 1)
    if window % 2 == 0:
        weights[[0, -1]] = 0.5
    for axis in range(values.ndim):
        values = ndimage.correlate1d(values, weights / weights.sum(), axis)
    return values


def _tidied(tissue: np.ndarray, options: TextureOptions, shape: Sequence[int]) -> np.ndarray:
    """Without small regions and small holes, and closed where gaps are narrower than windows can tell."""
    least = options.min_region_size / prod(min(options.cell, n) for n in shape)
    tissue = _without_small(tissue, least)
    tissue = ~_without_small(~tissue, least)
    edge = 2 * (options.window // 4) + 1
    return ndimage.minimum_filter(ndimage.maximum_filter(tissue, edge), edge)


def _without_small(mask: np.ndarray, least: float) -> np.ndarray:
    """A mask without those of its connected regions that have fewer than ``least`` cells."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    kept = sizes >= least
    kept[0] = False
    return kept[labels]
