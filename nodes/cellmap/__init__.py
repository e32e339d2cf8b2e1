"""Crops of the CellMap layout as branches of a pipeline."""

from scalenet_gp.nodes.cellmap.crops import CropBranch, check_counts, class_frequencies, open_branch, open_classes

__all__ = ["CropBranch", "check_counts", "class_frequencies", "open_branch", "open_classes"]
