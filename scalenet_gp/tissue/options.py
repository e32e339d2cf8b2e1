"""Options of the search for tissue, and the lengths that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isfinite

from scalenet_gp.errors import ArgumentError

__all__ = ["BLANK_EDGE", "MOST_LOST", "TextureOptions"]

BLANK_EDGE = 5
"""Voxels: a cube of this edge that holds one value was not recorded."""

MOST_LOST = 8
"""Sections: more in a row without content are a part that was not recorded, fewer were lost."""

_CELLS_PER_BLOCK = 16
_LEAST_CELL = 2  # voxels: what is smaller holds no structure tensor of its own
_TRUNCATION = 4  # standard deviations at which scipy cuts Gaussian kernels off


@dataclass(frozen=True, slots=True)
class TextureOptions:
    """Options of :func:`scalenet_gp.tissue.em_texture_masking`; all lengths are in voxels.

    Args:
        block_size: the edge of the window of local statistics.
        texture_sigma: the standard deviation of the finer Gaussian of the difference; sets the scale of the texture.
        edge_sigma: the standard deviation of the Gaussian whose derivatives make the structure tensor.
        min_region_size: the volume of the smallest region of tissue, and of the smallest hole in it.

    Raises:
        ArgumentError: ``block_size`` is not a whole number of at least 4, a sigma is not positive and finite, or
            ``min_region_size`` is not a positive whole number.

    Example:
        >>> TextureOptions(block_size=64).cell
        4
    """

    block_size: int = 64
    texture_sigma: float = 1.0
    edge_sigma: float = 0.5
    min_region_size: int = 250

    def __post_init__(self) -> None:
        for name, least in (("block_size", 2 * _LEAST_CELL), ("min_region_size", 1)):
            number = getattr(self, name)
            if isinstance(number, bool) or number != int(number) or number < least:
                raise ArgumentError(f"{name}={number!r} has to be a whole number of voxels, at least {least}")
        for name in ("texture_sigma", "edge_sigma"):
            sigma = getattr(self, name)
            if not (isfinite(sigma) and sigma > 0):
                raise ArgumentError(f"{name}={sigma!r} has to be a positive number of voxels")

    @property
    def cell(self) -> int:
        """The edge of a cell: features are averaged over cells first, and then over windows of cells."""
        return max(_LEAST_CELL, self.block_size // _CELLS_PER_BLOCK)

    @property
    def window(self) -> int:
        """The edge of the window in cells."""
        return round(self.block_size / self.cell)

    @property
    def coarse_sigma(self) -> float:
        """The standard deviation of the coarser Gaussian of the difference: at 1.6 it is nearly a Laplacian."""
        return 1.6 * self.texture_sigma

    @property
    def background_sigma(self) -> float:
        """The standard deviation of the Gaussian that gives the local brightness."""
        return 2 * self.coarse_sigma

    @property
    def clearance(self) -> int:
        """The distance from blank voxels beyond which texture does not depend on them."""
        return ceil(3 * self.background_sigma)

    @property
    def reach(self) -> int:
        """The distance that the features of a voxel depend on: with a margin of this, blocks agree with the whole."""
        kernels = sum(ceil(_TRUNCATION * sigma) + 1 for sigma in (self.background_sigma, self.edge_sigma))
        # what a lost section is filled with lies beyond the sections lost with it
        return max(kernels, self.clearance + BLANK_EDGE) + MOST_LOST + 2
