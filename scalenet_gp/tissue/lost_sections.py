"""Sections that were lost: planes of one value between recorded ones, filled so that texture goes on across them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scalenet_gp.tissue.options import BLANK_EDGE, MOST_LOST

__all__ = ["fill_lost_sections"]


def fill_lost_sections(volume: np.ndarray) -> np.ndarray:
    """Return a volume (z, y, x) whose lost sections have the mirror image of those beside them.

    A voxel is lost where a square of its section, of :data:`.BLANK_EDGE` voxels along an edge, has one value. Up to
    :data:`.MOST_LOST` lost voxels in a row along z are filled; more of them are a part that was not recorded. Each half
    of a row is mirrored about the recorded voxel next to it, which leaves noise as it is: copies or means would be
    smoother than what they replace.
    """
    plate = (1, BLANK_EDGE, BLANK_EDGE)
    lost = ndimage.maximum_filter(volume, plate) == ndimage.minimum_filter(volume, plate)
    if not lost.any():
        return volume
    lost = ndimage.maximum_filter(lost, plate)
    columns = lost.any(axis=0) & ~lost.all(axis=0)
    if not columns.any():
        return volume
    filled = volume.copy()
    filled[:, columns] = _fill_columns(volume[:, columns], lost[:, columns])
    return filled


def _fill_columns(values: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Fill columns (z, column), each of which has a recorded voxel."""
    depth = len(values)
    places = np.arange(depth)[:, None]
    below = np.maximum.accumulate(np.where(lost, -1, places), axis=0)
    above = np.minimum.accumulate(np.where(lost, depth, places)[::-1], axis=0)[::-1]
    short = lost & (above - below - 1 <= MOST_LOST)
    from_below = (above == depth) | ((below >= 0) & (places - below <= above - places))
    nearest = np.where(from_below, below, above)
    mirrored = np.clip(2 * nearest - places, 0, depth - 1)
    taken_from = np.where(np.take_along_axis(lost, mirrored, axis=0), nearest, mirrored)
    return np.where(short, np.take_along_axis(values, taken_from, axis=0), values)
