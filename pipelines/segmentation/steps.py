"""The work on one block in each step of a segmentation. Any number of threads may do blocks at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from funlib.geometry import Roi

from scalenet_gp.pipelines.blockwise import coarsen
from scalenet_gp.pipelines.segmentation.class_source import ClassSource
from scalenet_gp.pipelines.segmentation.fragments import Fragments
from scalenet_gp.segmentation import (
    BallOpening,
    Connectivity,
    background_connectivity,
    connected_pairs,
    label_components,
    look_up,
    measure_fragments,
)
from scalenet_gp.volumes import MultiscaleArrayWriter

__all__ = ["FindComponents", "FindEdges", "FindHoles", "WriteObjects"]


@final
@dataclass(frozen=True)
class FindHoles:
    """Labels the components of what is not of the class."""

    source: ClassSource
    holes: Fragments
    connectivity: Connectivity

    def __call__(self, roi: Roi) -> None:
        """Label a block."""
        mask, values = self.source.read(roi.begin, roi.end)
        _store(self.holes, roi, ~mask, values, background_connectivity(self.connectivity))


@final
@dataclass(frozen=True)
class FindComponents:
    """Labels the components of the class, after holes were filled and the mask was opened.

    Attributes:
        holes: fragments of the background, of which those that are filled have a number; None if none is filled.
    """

    source: ClassSource
    holes: Fragments | None
    opening: BallOpening
    fragments: Fragments
    connectivity: Connectivity

    def __call__(self, roi: Roi) -> None:
        """Label a block."""
        shape, margin = self.fragments.shape, self.opening.margin
        begin = [max(0, int(b) - m) for b, m in zip(roi.begin, margin, strict=True)]
        end = [min(n, int(e) + m) for e, m, n in zip(roi.end, margin, shape, strict=True)]
        mask, values = self.source.read(begin, end)
        if self.holes is not None:
            mask |= look_up(self.holes.read(begin, end), *self.holes.numbers()) > 0
        inside = tuple(slice(int(b) - f, int(e) - f) for b, e, f in zip(roi.begin, roi.end, begin, strict=True))
        _store(self.fragments, roi, self.opening(mask)[inside], values[inside], self.connectivity)


@final
@dataclass(frozen=True)
class FindEdges:
    """Finds the fragments that are connected across the planes between a block and those behind it."""

    fragments: Fragments
    connectivity: Connectivity

    def __call__(self, roi: Roi) -> None:
        """Find the edges of a block."""
        shape, dims = self.fragments.shape, len(self.fragments.shape)
        found = [np.empty((0, 2), np.uint64)]
        for axis in range(dims):
            plane = int(roi.end[axis])
            if plane == shape[axis]:
                continue
            begin, end = list(map(int, roi.begin)), list(map(int, roi.end))
            begin[axis], end[axis] = plane - 1, plane
            lower = self.fragments.read(begin, end)
            first = [max(0, b - 1) for b in begin]
            past = [min(n, e + 1) for e, n in zip(end, shape, strict=True)]
            first[axis], past[axis] = plane, plane + 1
            upper = self.fragments.read(first, past)
            missing = [
                (f - b + 1, e + 1 - p)
                for other, (f, b, e, p) in enumerate(zip(first, begin, end, past, strict=True))
                if other != axis
            ]
            around = np.pad(upper.squeeze(axis), missing)
            found.append(connected_pairs(*_planes(lower.squeeze(axis), around), self.connectivity))
        self.fragments.write_edges(roi, np.concatenate(found))


@final
@dataclass(frozen=True)
class WriteObjects:
    """Writes the objects' ids, with the levels that the blocks make."""

    fragments: Fragments
    volume: MultiscaleArrayWriter
    levels: int

    def __call__(self, roi: Roi) -> None:
        """Write a block."""
        ids, numbers = self.fragments.numbers()
        objects = look_up(self.fragments.read(roi.begin, roi.end), ids, numbers)
        self.volume.write(roi.begin, objects.astype(self.volume.layout.dtype, copy=False))
        for level in range(1, self.levels):
            coarsen(self.volume, level, roi.begin, roi.end)


def _store(fragments: Fragments, roi: Roi, mask: np.ndarray, values: np.ndarray, connectivity: Connectivity) -> None:
    """Label the components of a block's mask, and store them."""
    labels, count = label_components(mask, connectivity)
    rows = measure_fragments(labels, count, values, roi.begin, fragments.shape, fragments.base(roi))
    fragments.write(roi, labels, rows)


def _planes(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of two dimensions as planes of one row, the upper one with an empty row on both sides."""
    if lower.ndim == 2:
        return lower, upper
    return lower[np.newaxis], np.pad(upper[np.newaxis], ((1, 1), (0, 0)))
