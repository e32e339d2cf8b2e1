"""Regions of tissue, from the texture of cells."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, prod

import numpy as np
from scipy import ndimage

from scalenet_gp.tissue.options import TextureOptions

__all__ = ["NOISE", "is_tissue", "texture_threshold", "tissue_confidence", "tissue_evidence"]

NOISE = 2.0
"""Texture below this is that of noise alone. The texture of noise is 1."""

_APART = 8.0  # the ratio of textures by which the parts of a volume of tissue alone never differ
_STEEPNESS = 2  # of confidence: the power of the texture that it goes with
_CERTAIN = 5.0  # evidence: that of blank voxels against tissue, and the most that counts
_QUIETEST = 0.05  # the share of cells, those of least noise, whose noise is taken for that of resin


def tissue_evidence(cells: np.ndarray, options: TextureOptions, shape: Sequence[int]) -> np.ndarray:
    """Return by how much every cell exceeds the threshold of tissue, after small regions and holes were removed.

    Args:
        cells: the result of :func:`.cell_texture` for the whole volume.
        options: the options of the search.
        shape: the shape of the volume, voxels.

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
    """Return the confidence of a box of voxels, from the evidence of the cells of the whole volume.

    Evidence is interpolated linearly between the middles of cells.

    Args:
        evidence: the result of :func:`tissue_evidence`.
        options: the options of the search.
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
    """Return the mask: True where tissue is likelier than resin."""
    return confidence > 0.5


def texture_threshold(texture: np.ndarray) -> float:
    """Return the threshold between resin and tissue.

    Otsu's method splits any volume, also one of tissue or of resin alone. So its split counts only if the lower part is
    resin: if its median looks like noise, less than :data:`NOISE`, or is less than an eighth of the median above. The
    threshold is then midway between the two medians, and at least :data:`NOISE`. Otherwise it is :data:`NOISE`.

    Args:
        texture: logs of the texture, relative to that of noise; any shape.

    Returns:
        The log of the threshold.
    """
    from skimage.filters import threshold_otsu

    floor = log(NOISE)
    if texture.min() == texture.max():
        return floor
    split = float(threshold_otsu(texture))
    lower, upper = float(np.median(texture[texture <= split])), float(np.median(texture[texture > split]))
    resin = lower < floor or upper - lower > log(_APART)
    return max((lower + upper) / 2, floor) if resin else floor


def _windowed(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean over the window around every cell, mirrored at the volume's faces.

    An even number of cells is centred on a cell by halves of cells at both ends.
    """
    weights = np.ones(window // 2 * 2 + 1)
    if window % 2 == 0:
        weights[[0, -1]] = 0.5
    for axis in range(values.ndim):
        values = ndimage.correlate1d(values, weights / weights.sum(), axis)
    return values


def _tidied(tissue: np.ndarray, options: TextureOptions, shape: Sequence[int]) -> np.ndarray:
    """Remove small regions and small holes, and close gaps that are narrower than windows can resolve."""
    least = options.min_region_size / prod(min(options.cell, n) for n in shape)
    least = min(least, tissue.size)  # else all would go, and then the whole as a hole
    tissue = _without_small(tissue, least)
    tissue = ~_without_small(~tissue, least)
    edge = 2 * (options.window // 4) + 1
    return ndimage.minimum_filter(ndimage.maximum_filter(tissue, edge), edge)


def _without_small(mask: np.ndarray, least: float) -> np.ndarray:
    """Remove the connected regions of a mask that have fewer than ``least`` cells."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    kept = sizes >= least
    kept[0] = False
    return kept[labels]
