"""The work on one block in each step of a segmentation. Any number of threads may do blocks at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
from funlib.geometry import Roi

from scalenet_gp.pipelines.blockwise import coarsen
from scalenet_gp.pipelines.segmentation.boxes import grow_box, slices_within
from scalenet_gp.pipelines.segmentation.class_source import ClassSource
from scalenet_gp.pipelines.segmentation.fragments import Fragments
from scalenet_gp.segmentation import (
    BallOpening,
    Connectivity,
    Heights,
    background_connectivity,
    connected_pairs,
    find_basins,
    find_passes,
    label_components,
    look_up,
    measure_fragments,
)
from scalenet_gp.volumes import MultiscaleArrayWriter

__all__ = [
    "FindBasins",
    "FindComponents",
    "FindEdges",
    "FindHoles",
    "FindPasses",
    "ObjectMask",
    "Voxels",
    "WriteObjects",
]


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
@dataclass(frozen=True, slots=True)
class Voxels:
    """The voxels of objects in a box.

    Attributes:
        mask: boolean, (z, y, x).
        values: probabilities, or mean affinities, float32 (z, y, x).
        attached: see :func:`.attached_faces`; None if all neighbours are attached.
        more: voxels that basins grow into, boolean; None if there are none but those of the mask.
    """

    mask: np.ndarray
    values: np.ndarray
    attached: np.ndarray | None = None
    more: np.ndarray | None = None


class Reader(Protocol):
    """Reads voxels of objects in a box."""

    def read(self, begin: Sequence[int], end: Sequence[int]) -> Voxels:
        """Return the voxels from ``begin`` to before ``end``, both counted from the first of the region."""


@final
@dataclass(frozen=True)
class ObjectMask:
    """Reads the mask of a class after holes were filled and the mask was opened.

    Attributes:
        holes: fragments of the background, of which those that are filled have a number; None if none is filled.
    """

    source: ClassSource
    holes: Fragments | None
    opening: BallOpening
    shape: tuple[int, ...]

    def read(self, begin: Sequence[int], end: Sequence[int]) -> Voxels:
        """Return the voxels in a box: see :meth:`.ClassSource.read`."""
        first, past = grow_box(begin, end, self.opening.margin, self.shape)
        mask, values = self.source.read(first, past)
        if self.holes is not None:
            mask |= look_up(self.holes.read(first, past), *self.holes.numbers()) > 0
        inside = slices_within(begin, end, first)
        return Voxels(self.opening(mask)[inside], values[inside])


@final
@dataclass(frozen=True)
class FindComponents:
    """Labels the components of the class."""

    mask: ObjectMask
    fragments: Fragments
    connectivity: Connectivity

    def __call__(self, roi: Roi) -> None:
        """Label a block."""
        voxels = self.mask.read(roi.begin, roi.end)
        _store(self.fragments, roi, voxels.mask, voxels.values, self.connectivity)


@final
@dataclass(frozen=True)
class FindBasins:
    """Labels the parts of basins, and stores their heights."""

    mask: Reader
    heights: Heights
    fragments: Fragments
    connectivity: Connectivity

    def __call__(self, roi: Roi) -> None:
        """Label a block."""
        shape = self.fragments.shape
        begin, end = grow_box(roi.begin, roi.end, (1,) * len(shape), shape)
        first, past = grow_box(begin, end, self.heights.margin, shape)
        voxels = self.mask.read(first, past)
        near, beyond = slices_within(begin, end, first), _beyond(roi, begin, end)
        more = voxels.mask if voxels.more is None else voxels.more
        high = np.pad(self.heights.grown(voxels.mask, more)[near], beyond)
        attached = None if voxels.attached is None else np.pad(voxels.attached[near], beyond)
        labels, count = find_basins(high, self.connectivity, attached)
        values = voxels.values[slices_within(roi.begin, roi.end, first)]
        rows = measure_fragments(labels, count, values, roi.begin, shape, self.fragments.base(roi))
        self.fragments.write_heights(roi, high[(slice(1, -1),) * len(shape)])
        self.fragments.write(roi, labels, rows)


@final
@dataclass(frozen=True)
class FindPasses:
    """Finds how the parts of basins are connected, within a block and with those around it.

    Attributes:
        mask: says which neighbours are attached; all are without.
    """

    fragments: Fragments
    connectivity: Connectivity
    mask: Reader | None = None

    def __call__(self, roi: Roi) -> None:
        """Find the passes of a block."""
        begin, end = grow_box(roi.begin, roi.end, (1,) * len(self.fragments.shape), self.fragments.shape)
        beyond = _beyond(roi, begin, end)
        ids = np.pad(self.fragments.read(begin, end), beyond)
        heights = np.pad(self.fragments.read_heights(begin, end), beyond)
        attached = None if self.mask is None else self.mask.read(begin, end).attached
        links, passes = find_passes(
            ids, heights, self.connectivity, None if attached is None else np.pad(attached, beyond)
        )
        self.fragments.write_passes(roi, passes)
        self.fragments.write_edges(roi, links)


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
            first, past = grow_box(begin, end, (1,) * dims, shape)
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
    """Writes the objects' ids, with the levels that the blocks make.

    Attributes:
        volume: of the objects.
        levels: number of levels that the blocks make.
        kept: the volume of fragments, whose levels are made, too; None if it is not kept.
    """

    fragments: Fragments
    volume: MultiscaleArrayWriter
    levels: int
    kept: MultiscaleArrayWriter | None = None

    def __call__(self, roi: Roi) -> None:
        """Write a block."""
        ids, numbers = self.fragments.numbers()
        objects = look_up(self.fragments.read(roi.begin, roi.end), ids, numbers)
        self.volume.write(roi.begin, objects.astype(self.volume.layout.dtype, copy=False))
        for level in range(1, self.levels):
            for volume in filter(None, (self.volume, self.kept)):
                coarsen(volume, level, roi.begin, roi.end)


def _store(fragments: Fragments, roi: Roi, mask: np.ndarray, values: np.ndarray, connectivity: Connectivity) -> None:
    """Label the components of a block's mask, and store them."""
    labels, count = label_components(mask, connectivity)
    rows = measure_fragments(labels, count, values, roi.begin, fragments.shape, fragments.base(roi))
    fragments.write(roi, labels, rows)


def _beyond(roi: Roi, begin: Sequence[int], end: Sequence[int]) -> list[tuple[int, int]]:
    """Return the voxels that a box lacks, per axis, of one more on every side of a block: where the region ends."""
    return [
        (b - int(low) + 1, int(high) + 1 - e) for b, e, low, high in zip(begin, end, roi.begin, roi.end, strict=True)
    ]


def _planes(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of two dimensions as planes of one row, the upper one with an empty row on both sides."""
    if lower.ndim == 2:
        return lower, upper
    return lower[np.newaxis], np.pad(upper[np.newaxis], ((1, 1), (0, 0)))
