"""Tissue told from resin by its texture."""

from __future__ import annotations

from math import prod

import numpy as np

from scalenet_gp.errors import ArgumentError
from scalenet_gp.tissue.features import cell_texture
from scalenet_gp.tissue.options import TextureOptions
from scalenet_gp.tissue.regions import is_tissue, tissue_confidence, tissue_evidence

__all__ = ["em_texture_masking"]


def em_texture_masking(
    volume: np.ndarray,
    block_size: int = 64,
    texture_sigma: float = 1.0,
    edge_sigma: float = 0.5,
    min_region_size: int = 250,
) -> tuple[np.ndarray, np.ndarray]:
    """Find tissue, which has texture, in resin, which is smooth but for noise and slow changes of brightness.

    Three energies are averaged over cells of a sixteenth of ``block_size`` (two voxels at least): that of the
    difference of two Gaussians (of ``texture_sigma`` and 1.6 times that), the local variance about a Gaussian mean (of
    3.2 times ``texture_sigma``), and that of edges that run the same way: the norm of the deviator of the structure
    tensor (of derivatives by ``edge_sigma``). E is the geometric mean of the three, and N the variance of the noise,
    from the finest differences; each is relative to that of white noise of variance 1. With E and N averaged
    geometrically over a window of ``block_size``, and N₀ the 5th percentile of N in the volume,

        texture T = E / (N² N₀)^⅓ , confidence = T² / (T² + t²) , mask = confidence > ½ .

    T is 1 in resin, however bright or noisy: N allows for noise that varies within the volume, N₀ finds tissue so
    fine that it is noise to N. Geometric means put the border where half of a window is tissue. The threshold t is
    midway between the two parts that Otsu's method makes of log T if the lower is resin, but never under 2, and 2 if it
    is not. It is resin if its median is under 2 or under an eighth of the other's. So a volume of tissue alone is all
    tissue, and one of resin has none. Regions and holes smaller than ``min_region_size`` go, and gaps narrower than
    half a block, which windows cannot resolve, are closed; the confidence there is mirrored at ½. Sections that were
    lost (of one value, up to 8 in a row along z) count as the mirror image of those beside them. Blank voxels (cubes of
    5 voxels of one value in more sections: never recorded, or saturated) are not tissue, and texture within reach of
    them is ignored.

    If noise is not white (the volume was interpolated or smoothed) and tissue not much stronger, all of it counts as
    tissue. Tissue weaker than noise is not found.

    Args:
        volume: intensities, (z, y, x) or (y, x), of any real dtype; meant for about isotropic voxels of 64 to 128 nm.
        block_size: voxels along the edge of the window; half of it is about the finest detail of the mask.
        texture_sigma: voxels: the scale of the texture.
        edge_sigma: voxels: the scale of edges.
        min_region_size: voxels, counted in whole cells. If the volume has fewer, it is all tissue or has none.

    Returns:
        The mask, bool, and the confidence, float32 in [0, 1]; both of the shape of ``volume``.

    Raises:
        ArgumentError: ``volume`` is empty, a single voxel, not real, of another number of axes, or not finite;
            or a size is not positive.
    """
    options = TextureOptions(block_size, texture_sigma, edge_sigma, min_region_size)
    volume = np.asarray(volume)
    if volume.ndim not in (2, 3) or volume.dtype.kind not in "biuf" or prod(volume.shape) < 2:
        raise ArgumentError(
            f"a volume of shape {volume.shape} and dtype {volume.dtype} has no texture; give real numbers with axes "
            "(z, y, x) or (y, x) and at least two voxels"
        )
    evidence = tissue_evidence(cell_texture(volume, options, volume.shape), options, volume.shape)
    confidence = tissue_confidence(evidence, options, (0,) * volume.ndim, volume.shape)
    return is_tissue(confidence), confidence
