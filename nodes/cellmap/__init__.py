"""The layout of the CellMap Segmentation Challenge."""
