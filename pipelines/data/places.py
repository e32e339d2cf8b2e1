"""Places in a source: between world coordinates and nm from the raw volume's corner, as run files count."""

from __future__ import annotations

from fractions import Fraction

from funlib.geometry import Coordinate, Roi

from scalenet_gp.geometry import World
from scalenet_gp.pipelines.config import Region
from scalenet_gp.volumes import MultiscaleImage

__all__ = ["extent_of", "raw_roi", "region_of"]


def region_of(roi: Roi, raw: MultiscaleImage, world: World) -> Region:
    """Return a ROI (world units) in nm from the raw volume's corner."""
    corner = raw.levels[0].begin
    begin, end = (
        tuple(length - c for length, c in zip(world.position_in_nm(edge), corner, strict=True))
        for edge in (roi.begin, roi.end)
    )
    return Region(begin=begin, end=end)


def extent_of(raw: MultiscaleImage) -> Region:
    """Return the region of the whole raw volume."""
    level = raw.levels[0]
    lengths = tuple(n * size for n, size in zip(level.shape, level.voxel_size, strict=True))
    return Region(begin=(Fraction(0),) * raw.dims, end=lengths)


def raw_roi(raw: MultiscaleImage, world: World) -> Roi:
    """Return the ROI of the raw volume, world units; to half a unit where raw data are resampled."""
    origin, level = world.position_in_nm(Coordinate((0,) * raw.dims)), raw.levels[0]
    begin, end = (
        Coordinate(round((edge - o) / world.unit) for edge, o in zip(corner, origin, strict=True))
        for corner in (level.begin, level.end)
    )
    return Roi(begin, end - begin)
