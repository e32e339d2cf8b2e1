"""Sources of raw data at several voxel sizes."""

from scalenet_gp.nodes.sources.multiscale_source import MultiscaleSource, check_masks
from scalenet_gp.nodes.sources.to_unit_range import ToUnitRange

__all__ = ["MultiscaleSource", "ToUnitRange", "check_masks"]
