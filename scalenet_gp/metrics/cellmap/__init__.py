"""The metric of the CellMap Segmentation Challenge, by the rule of 2026-06-30."""
