"""Boxes that tile a region."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from funlib.geometry import Coordinate, Roi

__all__ = ["tiles"]


def tiles(roi: Roi, shape: Coordinate) -> Iterator[Roi]:
    """Boxes of ``shape`` that tile ``roi``; the last along an axis is as small as what is left."""
    starts = (range(b, e, s) for b, e, s in zip(roi.begin, roi.end, shape, strict=True))
    for begin in itertools.product(*starts):
        yield Roi(begin, shape).intersect(roi)
