"""The work on one block in the steps that segment affinities, and the merging. Any number of threads may do blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import final

import numpy as np
from funlib.geometry import Roi

from scalenet_gp.pipelines.segmentation.affinity_source import AffinitySource
from scalenet_gp.pipelines.segmentation.boxes import grow_box, slices_within
from scalenet_gp.pipelines.segmentation.fragments import Fragments
from scalenet_gp.pipelines.segmentation.graph_database import write_graph
from scalenet_gp.pipelines.segmentation.job import SegmentedAffinities
from scalenet_gp.pipelines.segmentation.kind_source import KindSource
from scalenet_gp.pipelines.segmentation.lookup import LookupTables
from scalenet_gp.segmentation import (
    AffinityMethod,
    MutexOptions,
    cut_kinds,
    forward_affinities,
    join_by_affinities,
    mean_affinities,
    measure_fragments,
    mutex_fragments,
    mutex_levels,
    number_objects,
    offset_reach,
    sum_edges,
    sum_kinds,
)

__all__ = ["FindMutexFragments", "SumEdges", "SumKinds", "merge_affinities"]


@final
@dataclass(frozen=True)
class FindMutexFragments:
    """Labels the fragments of a mutex watershed of a block with its context.

    Attributes:
        context: voxels around a block.
        kinds: the probabilities of kinds, by which fragments are cut; None if there are none.
    """

    source: AffinitySource
    fragments: Fragments
    options: MutexOptions
    context: tuple[int, ...]
    kinds: KindSource | None = None
    _turn: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def __call__(self, roi: Roi) -> None:
        """Label a block."""
        first, past = grow_box(roi.begin, roi.end, self.context, self.source.shape)
        strides = self.options.strides
        if strides is not None:  # which count from the first voxel of the region in every block
            first = [b - b % math.lcm(*along) for b, along in zip(first, zip(*strides, strict=True), strict=True)]
        affinities = self.source.read(first, past)
        inside = slices_within(roi.begin, roi.end, first)
        with self._turn:  # mwatershed lets no other thread compute meanwhile, and takes most of the memory
            forward = forward_affinities(affinities, self.source.offsets)
            labels, count = mutex_fragments(affinities, forward, self.source.offsets, self.options, inside)
            values = mean_affinities(forward)[inside]
        del affinities, forward
        if self.kinds is not None and self.options.kinds is not None:
            probabilities = self.kinds.read(roi.begin, roi.end)
            labels, count = cut_kinds(labels, count, probabilities, self.options.kinds.confidence)
        base = self.fragments.base(roi)
        rows = measure_fragments(labels, count, values, roi.begin, self.source.shape, base)
        self.fragments.write(roi, labels, rows)


@final
@dataclass(frozen=True)
class SumKinds:
    """Sums the probabilities of kinds in the fragments of a block."""

    source: KindSource
    fragments: Fragments

    def __call__(self, roi: Roi) -> None:
        """Sum up the kinds of a block."""
        ids = self.fragments.read(roi.begin, roi.end)
        labels = np.where(ids > 0, ids - np.uint64(self.fragments.base(roi)), 0).astype(np.int64)
        sums = sum_kinds(labels, int(labels.max()), self.source.read(roi.begin, roi.end))
        self.fragments.write_kinds(roi, sums)


@final
class SumEdges:
    """Sums the affinities between the fragments of a block and those that its offsets reach.

    Args:
        source: the affinities.
        fragments: the fragments.
        options: the method.
    """

    def __init__(self, source: AffinitySource, fragments: Fragments, options: AffinityMethod) -> None:
        self._source, self._fragments = source, fragments
        self._channels: Sequence[int] = range(len(source.offsets))
        self._levels: Sequence[int] | None = None
        self._biases: Sequence[float] | None = None
        if options.kind == "mutex":
            self._levels, self._biases = mutex_levels(source.offsets, options)
        else:
            self._channels = source.adjacent
            if options.quantile is None:
                self._levels = [0] * len(self._channels)
        self._offsets = [source.offsets[index] for index in self._channels]

    def __call__(self, roi: Roi) -> None:
        """Sum up the edges of a block."""
        below, above = offset_reach(self._offsets)
        first = [max(0, int(b) - m) for b, m in zip(roi.begin, below, strict=True)]
        past = [min(n, int(e) + m) for e, m, n in zip(roi.end, above, self._source.shape, strict=True)]
        affinities = self._source.read(roi.begin, roi.end, self._channels)
        corner = [int(b) - f for b, f in zip(roi.begin, first, strict=True)]
        labels = self._fragments.read(first, past)
        edges = sum_edges(labels, affinities, self._offsets, corner, self._levels, self._biases)
        self._fragments.write_scores(roi, edges)


def merge_affinities(fragments: Fragments, part: SegmentedAffinities, volume: Path, name: str) -> int:
    """Store the number of every fragment's object for each threshold, and all of them beside the fragments.

    Args:
        fragments: the fragments of all blocks.
        part: the method.
        volume: the volume of fragments, beside which the look-up tables and the graph are: see :class:`.LookupTables`,
            :func:`.write_graph`.
        name: of the objects.

    Returns:
        The number of objects of the method's own threshold.

    Raises:
        OSError: files cannot be read or written.
    """
    options, rows = part.options, fragments.rows()
    links = passes = np.empty((0, 2), np.uint64)
    if options.kind == "agglomerate":
        links, passes = fragments.links(), fragments.passes()
    kinds = None if part.kinds is None else fragments.kinds()
    edges = fragments.scores()
    smallest = options.smallest_voxels(part.voxel_size)
    numbered = [
        number_objects(rows, objects, count, lambda measures: measures["voxels"] >= smallest)
        for objects, count in join_by_affinities(rows, edges, options, part.voxel_size, links, passes, kinds)
    ]
    tables = LookupTables(rows["id"], options.swept, tuple(numbers for numbers, _ in numbered))
    tables.write(volume)
    write_graph(rows, edges, options, part.corner, part.voxel_size, volume, name)
    numbers, objects = numbered[options.swept.index(options.own_threshold)]
    fragments.write_numbers(rows["id"], numbers, objects)
    return len(objects)
