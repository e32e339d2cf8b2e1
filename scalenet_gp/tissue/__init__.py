"""Tissue masks of arrays."""

from scalenet_gp.tissue.features import TEXTURE_CHANNELS, cell_texture
from scalenet_gp.tissue.options import TextureOptions
from scalenet_gp.tissue.regions import is_tissue, tissue_confidence, tissue_evidence
from scalenet_gp.tissue.texture import em_texture_masking

__all__ = [
    "TEXTURE_CHANNELS",
    "TextureOptions",
    "cell_texture",
    "em_texture_masking",
    "is_tissue",
    "tissue_confidence",
    "tissue_evidence",
]
