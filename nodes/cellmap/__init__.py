"""Crops of the CellMap layout as sources."""

__all__ = []
