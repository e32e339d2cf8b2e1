"""Tissue masks of volumes."""

from scalenet_gp.pipelines.masks.tissue_mask import mask_of_prediction, mask_tissue

__all__ = ["mask_of_prediction", "mask_tissue"]
