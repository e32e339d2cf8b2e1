"""Sources of raw data at several voxel sizes."""

from scalenet_gp.nodes.sources.multiscale_source import MultiscaleSource
from scalenet_gp.nodes.sources.reading_source import ReadingSource, check_masks
from scalenet_gp.nodes.sources.to_unit_range import ToUnitRange

__all__ = ["MultiscaleSource", "ReadingSource", "ToUnitRange", "check_masks"]
