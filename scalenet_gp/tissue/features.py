"""The texture of a volume, cell by cell: the part of the search for tissue that reads voxels.

A cell is a cube of a few voxels. Later steps work on cells: there are dozens to hundreds of times fewer cells than
voxels. Everything here is local: computed with a margin of :attr:`TextureOptions.reach`, a part of a volume has the
cells that the whole has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from scipy import ndimage

from scalenet_gp.errors import ArgumentError
from scalenet_gp.tissue.lost_sections import fill_lost_sections
from scalenet_gp.tissue.options import BLANK_EDGE, TextureOptions
from scalenet_gp.volumes import block_mean

__all__ = ["TEXTURE_CHANNELS", "cell_texture"]

TEXTURE_CHANNELS = 4
"""The features of a cell: the logs of its texture energy and of its noise variance, both relative to white noise of
variance 1; the share of its voxels that went into these, and the share that is blank."""

_NOISE_LENGTHS = {1: 4096, 2: 256, 3: 64}  # voxels per axis, by the number of axes
_ROUNDING = 0.5  # of the step from a number to the next: what is less noise than this says nothing
_PRECISION = 1e-6  # of a value: a few times what single precision, in which all is computed, rounds off


def cell_texture(
    volume: np.ndarray, options: TextureOptions, shape: Sequence[int], core: Sequence[slice] | None = None
) -> np.ndarray:
    """Return the texture of every cell.

    Args:
        volume: intensities, (z, y, x) or (y, x), with a margin where it is a part of a larger volume.
        options: the options of the search.
        shape: of the whole volume.
        core: the part of ``volume`` without margins, everything by default. The last cell along an axis may be cut.

    Returns:
        (:data:`TEXTURE_CHANNELS`, z, y, x), float32, in cells.

    Raises:
        ValueError: there are values that are not finite.
    """
    if not np.isfinite(volume).all():
        raise ArgumentError(
            f"{np.count_nonzero(~np.isfinite(volume))} voxels are no finite numbers; write 0 there, and large gaps "
            "count as blank"
        )
    # an axis of one voxel has no texture and would have no noise either
    flat = tuple(axis for axis, n in enumerate(shape) if n == 1)
    lengths = tuple(n for n in shape if n > 1)
    reference = _noise_logs(options, tuple(min(n, _NOISE_LENGTHS[len(lengths)]) for n in lengths))
    core = tuple(slice(0, n) for n in volume.shape) if core is None else tuple(core)
    core = tuple(part for axis, part in enumerate(core) if axis not in flat)
    intensities = volume.squeeze(flat)
    if intensities.dtype == np.float16:  # which scipy's filters do not know
        intensities = intensities.astype(np.float32)
    if intensities.ndim == 3:
        intensities = fill_lost_sections(intensities)
    single = intensities.astype(np.float32)
    rounding = _rounding(single, volume.dtype, options, core)
    *energies, noise = (
        np.log(values + rounding * np.exp(alone)) - alone
        for values, alone in zip(_energies(single, options, core), reference, strict=True)
    )
    blank = _blank(intensities)
    near_blank = ndimage.maximum_filter(blank, 2 * options.clearance + 1) if blank.any() else blank
    shares = (_cells(part[core].astype(np.float32), options.cell) for part in (~near_blank, blank))
    texture = np.stack([sum(energies[1:], energies[0]) / len(energies), noise, *shares], dtype=np.float32)
    return np.expand_dims(texture, tuple(axis + 1 for axis in flat))


def _rounding(
    volume: np.ndarray, dtype: np.dtype[Any], options: TextureOptions, core: tuple[slice, ...]
) -> np.ndarray | float:
    """The variance of noise that says nothing, of every cell, since numbers of ``dtype`` have no finer steps.

    Whole numbers have steps of one size; those of fractions go with their size, which is that of the values around:
    nothing is taken from elsewhere in a volume, such as its brightest speck.
    """
    whole = dtype.kind in "biu"
    least = _ROUNDING**2 if whole else float(np.finfo(np.float32).tiny)
    if whole and dtype.itemsize <= 2:
        return least
    relative = _PRECISION if whole else max(_PRECISION, _ROUNDING * float(np.finfo(dtype).eps))
    size = _cells(ndimage.gaussian_filter(np.square(volume), options.background_sigma)[core], options.cell)
    return np.maximum(relative**2 * size, least)


@cache
def _noise_logs(options: TextureOptions, shape: tuple[int, ...]) -> np.ndarray:
    """The mean logs of :func:`_energies` of white noise of variance 1.

    Measured, as logs of averages over few voxels have no simple expectation.
    """
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return np.array([np.log(values).mean() for values in _energies(noise, options, (slice(None),) * noise.ndim)])


def _energies(volume: np.ndarray, options: TextureOptions, core: tuple[slice, ...]) -> tuple[np.ndarray, ...]:
    """The energies of every cell: of a difference of Gaussians, of the local variance, of edges that run the same way,
    and of the finest differences."""
    detail = volume - ndimage.gaussian_filter(volume, options.background_sigma)  # a linear slope leaves nothing
    band = ndimage.gaussian_filter(volume, options.texture_sigma)
    band -= ndimage.gaussian_filter(volume, options.coarse_sigma)
    return (
        _cells(np.square(band[core]), options.cell),
        _cells(np.square(detail[core]), options.cell),
        _coherent_edges(detail, options, core),
        _cells(np.square(_fine_differences(volume)[core]), options.cell),
    )


def _coherent_edges(detail: np.ndarray, options: TextureOptions, core: tuple[slice, ...]) -> np.ndarray:
    """The norm of the deviator of every cell's structure tensor: the energy of edges that run the same way."""
    dims = detail.ndim
    slopes = [
        ndimage.gaussian_filter(detail, options.edge_sigma, order=[int(a == axis) for a in range(dims)])[core]
        for axis in range(dims)
    ]
    tensor = {
        (i, j): _cells(slopes[i] * slopes[j], options.cell) for i, j in combinations_with_replacement(range(dims), 2)
    }
    trace = sum(tensor[i, i] for i in range(dims))
    squared = sum((1 if i == j else 2) * np.square(entry) for (i, j), entry in tensor.items())
    if dims == 1:
        return np.asarray(trace)
    return np.sqrt(np.maximum(squared - np.square(trace) / dims, 0))


def _fine_differences(volume: np.ndarray) -> np.ndarray:
    """Second differences along every axis at once, of variance 1 for white noise of variance 1.

    Content that is smooth along any axis gives zero (J. Immerkær, Fast noise variance estimation, 1996).
    """
    for axis in range(volume.ndim):
        volume = ndimage.correlate1d(volume, np.array([1, -2, 1]) / np.sqrt(6), axis)
    return volume


def _blank(volume: np.ndarray) -> np.ndarray:
    """The voxels of whole cubes of one value: what was never recorded, or is saturated."""
    same = ndimage.maximum_filter(volume, BLANK_EDGE) == ndimage.minimum_filter(volume, BLANK_EDGE)
    return ndimage.maximum_filter(same, BLANK_EDGE) if same.any() else same


def _cells(values: np.ndarray, edge: int) -> np.ndarray:
    """The mean of every cell; the last along an axis is filled up with its mirror image."""
    short = [(0, -n % edge) for n in values.shape]
    return block_mean(np.pad(values, short, mode="symmetric"), (edge,) * values.ndim)
