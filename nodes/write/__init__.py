"""Nodes that write OME-Zarr."""

from scalenet_gp.nodes.write.ome_zarr_write import OmeZarrWrite

__all__ = ["OmeZarrWrite"]
