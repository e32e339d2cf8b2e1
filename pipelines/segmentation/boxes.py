"""Boxes of voxels with a margin, as far as a region goes."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["grow_box", "slices_within"]


def grow_box(
    begin: Sequence[int], end: Sequence[int], margin: Sequence[int], shape: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the corners of a box with a margin, as far as the region goes.

    Args:
        begin: first voxel, counted from that of the region.
        end: the voxel after the last.
        margin: voxels on every side, per axis.
        shape: voxels of the region.

    Example:
        >>> grow_box((0, 8), (4, 16), (2, 2), (10, 16))
        ([0, 6], [6, 16])
    """
    first = [max(0, int(b) - m) for b, m in zip(begin, margin, strict=True)]
    return first, [min(n, int(e) + m) for e, m, n in zip(end, margin, shape, strict=True)]


def slices_within(begin: Sequence[int], end: Sequence[int], first: Sequence[int]) -> tuple[slice, ...]:
    """Return the place of a box in an array that begins at the voxel ``first``."""
    return tuple(slice(int(b) - f, int(e) - f) for b, e, f in zip(begin, end, first, strict=True))
