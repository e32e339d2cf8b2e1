"""The evaluation of a segmentation: scores of its objects against instances of the annotation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.geometry import World, common_unit, format_size
from scalenet_gp.metrics import (
    BoundaryCounts,
    ContingencyTable,
    InstanceScores,
    RunLength,
    count_boundaries,
    expected_run_length,
)
from scalenet_gp.options import suggest
from scalenet_gp.pipelines.blockwise import tiles
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.data import Dataset, choose_source
from scalenet_gp.pipelines.evaluation.boundary_sums import BoundaryTolerance
from scalenet_gp.pipelines.evaluation.held_out import evaluation_roi
from scalenet_gp.pipelines.process import progress_bar
from scalenet_gp.serialization import atomic_write
from scalenet_gp.volumes import (
    ClassVolume,
    MultiscaleImage,
    Skeletons,
    StrPath,
    find_node,
    join,
    read_skeletons,
)

__all__ = ["InstanceComparison", "SegmentationScores", "evaluate_segmentation", "true_instances"]

_VERSION = 1

_BLOCK = 128
"""Voxels along each axis of a block."""


@dataclass(frozen=True, slots=True)
class SegmentationScores:
    """The scores of a segmentation.

    Attributes:
        classes: the scores of each class.
        tolerances: nm; the distance within which boundaries of each class count as found.

    Example:
        >>> SegmentationScores({}, {}).to_json()
        {'version': 1, 'classes': {}}
    """

    classes: Mapping[str, InstanceScores]
    tolerances: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON can hold them, with None for those that are not defined."""
        scores = {
            name: {**of.to_json(), "boundary_tolerance": self.tolerances[name]} for name, of in self.classes.items()
        }
        return {"version": _VERSION, "classes": scores}

    def write(self, output: Path) -> None:
        """Write the scores as JSON."""
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(output) as beside:
            beside.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")


def evaluate_segmentation(
    config: Config,
    volume: StrPath,
    segmentation: StrPath,
    region: Region | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    source: str | None = None,
    classes: Sequence[str] = (),
    skeletons: Path | None = None,
) -> SegmentationScores:
    """Compare a volume of ids with instances of the annotation, block by block.

    Voxels that are not annotated do not count. The annotation is read at the voxels of the segmentation. Memory is that
    of a block, and of the overlaps of objects.

    Args:
        config: the run file, with the labels and the evaluation region.
        volume: folder, or its URL, that paths of the config start at.
        segmentation: a volume of ids, 0 for the background, or a group with one for each class, as
            :func:`scalenet_gp.pipelines.segmentation.segment` makes.
        region: the region to compare, instead of that of the config.
        output: JSON file for the scores.
        overwrite: replace ``output`` if it exists.
        source: name of the source of the run file; the only one unless given.
        classes: the classes to compare, whose label volumes have a number for each object. Unless given, the class of a
            source with the encoding ``instances``.
        skeletons: file of skeletons, or folder of such files, for the expected run length: see
            :func:`.read_skeletons`. Edges that leave the region do not count.

    Returns:
        The scores of each class.

    Raises:
        FileExistsError: ``output`` exists.
        FileNotFoundError: there is no such volume, labels, segmentation or skeletons.
        DataError: every voxel of the region is unknown, or the segmentation does not hold ids.
        ScaleNetError: nothing is annotated in the region, the network learns from a part of it, the source has no
            instances, or the segmentation does not cover the region.
    """
    if output is not None and output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    dataset = Dataset.open(volume, config, config.build_network(), choose_source(config.data, volume, source))
    truths = true_instances(dataset, classes)
    if skeletons is not None and len(truths) > 1:
        raise ConfigError(f"skeletons are of one class, and {', '.join(truths)} are compared: choose one")
    roi = evaluation_roi(config, dataset, region)
    read = None if skeletons is None else read_skeletons(skeletons)
    given = config.evaluation.boundary_tolerance
    compared = [
        InstanceComparison(
            dataset, name, truth, _segmented(segmentation, name, alone=len(truths) == 1), roi, given, read
        )
        for name, truth in truths.items()
    ]
    with progress_bar("evaluating", sum(one.blocks for one in compared)) as advance:
        for one in compared:
            for _ in one.count():
                advance("")
    result = SegmentationScores(
        {one.name: one.scores() for one in compared}, {one.name: one.tolerance for one in compared}
    )
    if output is not None:
        result.write(output)
    return result


class InstanceComparison:
    """Counts of one class, block by block.

    Args:
        dataset: the annotated volume.
        name: the class.
        truth: its instances.
        segmentation: ids.
        roi: the region to compare, world units.
        tolerance: nm; the distance within which boundaries count as found; None for twice the longest edge of a voxel.
        skeletons: for the expected run length.

    Raises:
        ConfigError: the segmentation does not cover the region.
    """

    def __init__(
        self,
        dataset: Dataset,
        name: str,
        truth: ClassVolume,
        segmentation: MultiscaleImage,
        roi: Roi,
        tolerance: Fraction | None,
        skeletons: Skeletons | None,
    ) -> None:
        self.name = name
        self._dataset, self._truth, self._segmentation = dataset, truth, segmentation
        size = segmentation.levels[0].voxel_size
        # the world of the data set, in units that this voxel size is a whole number of
        unit = common_unit([size, (dataset.world.unit,)])
        self._world = World(unit, dataset.world.origin)
        finer = int(dataset.world.unit / unit)
        self._size = self._world.size(size)
        self._roi = Roi(roi.begin * finer, roi.shape * finer).snap_to_grid(self._size, mode="shrink")
        there = segmentation.roi(self._size, self._world, labels=True)
        if self._roi.empty:
            raise ConfigError(
                f"{segmentation.path} has voxels of {format_size(size)} nm, and {dataset.region(roi)} has none as a "
                "whole"
            )
        if not there.contains(self._roi):
            corner = dataset.raw.levels[0].begin
            begin, end = (
                tuple(length - c for length, c in zip(self._world.position_in_nm(edge), corner, strict=True))
                for edge in (there.begin, there.end)
            )
            raise ConfigError(
                f"{segmentation.path} covers {Region(begin=begin, end=end)} from the raw volume's corner, not all of "
                f"{dataset.region(roi)}: segment that, or choose another region with --region"
            )
        allowed = BoundaryTolerance(size, tolerance)
        self._voxel, self.tolerance = allowed.voxel_size, allowed.nm
        self._margin = self._size * allowed.margin
        self._shape = self._size * _BLOCK
        self.blocks = math.prod(-(-n // s) for n, s in zip(self._roi.shape, self._shape, strict=True))
        self._table, self._boundaries, self._known = ContingencyTable(), BoundaryCounts(), 0
        self._nodes = None if skeletons is None else _Nodes(skeletons, self._world, self._roi, self._size)

    def overlaps(self) -> Iterator[ContingencyTable]:
        """Yield the overlaps of true objects and ids in each block, where the truth is known."""
        for _, inner, truth, segmented, known in self._blocks(margin=False):
            table = ContingencyTable()
            table.update(truth[inner], segmented[inner], known[inner])
            yield table

    def count(self) -> Iterator[None]:
        """Count block after block."""
        for tile, inner, truth, segmented, known in self._blocks(margin=True):
            self._table.update(truth[inner], segmented[inner], known[inner])
            counts = count_boundaries(truth, segmented, self._voxel, self.tolerance, known, inner)
            self._boundaries += counts
            self._known += int(np.count_nonzero(known[inner]))
            if self._nodes is not None:
                self._nodes.look_up(tile, segmented[inner])
            yield

    def _blocks(self, margin: bool) -> Iterator[tuple[Roi, tuple[slice, ...], np.ndarray, np.ndarray, np.ndarray]]:
        """Yield each block, its place in what is read around it, true ids, ids, and where the truth is known."""
        for tile in tiles(self._roi, self._shape):
            around = tile.grow(self._margin, self._margin).intersect(self._roi) if margin else tile
            place = (around, self._size, self._world)
            finish = self._segmentation.start(*place, labels=True)
            truth, known = self._true_ids(*place)
            segmented = finish()[0]
            yield tile, tuple(((tile - around.begin) // self._size).to_slices()), truth, segmented, known

    def scores(self) -> InstanceScores:
        """Return the scores of all blocks.

        Raises:
            DataError: nothing is annotated.
        """
        if not self._known:
            raise DataError(
                f"every voxel of the region is unknown to the labels of {self.name}, so that there is nothing to "
                "compare a segmentation with; give another region or other labels"
            )
        return InstanceScores.of(
            self._table, self._boundaries, None if self._nodes is None else self._nodes.run_length()
        )

    def _true_ids(self, roi: Roi, size: Coordinate, world: World) -> tuple[np.ndarray, np.ndarray]:
        """Return the true ids, 0 where there is no object, and where they are known."""
        volume = self._truth.volume
        if volume is None:  # _instances refuses it
            raise DataError(f"there are no labels of {self.name}")
        with self._dataset.source.naming_faults("labels"):
            values = volume.read(roi, size, world, labels=True, padding="constant")
            inside = volume.valid(roi, size, world, labels=True)
        present, known = self._truth.read(values)
        return np.where(present, values, 0)[0], (known & (inside > 0))[0]


class _Nodes:
    """The predicted ids at the nodes of skeletons."""

    def __init__(self, skeletons: Skeletons, world: World, roi: Roi, size: Coordinate) -> None:
        dims = len(size)
        corner, voxel = (
            np.array([*map(float, of)]) for of in (world.position_in_nm(roi.begin), world.size_in_nm(size))
        )
        voxels = np.floor((skeletons.positions[:, -dims:] - corner) / voxel).astype(np.int64)
        inside = ((voxels >= 0) & (voxels < np.array(roi.shape // size))).all(axis=1)
        kept = inside[skeletons.edges].all(axis=1)
        if not kept.any():
            raise DataError("no edge of the skeletons lies in the region; are their positions nm, as the volume's are?")
        self._positions, self._edges = skeletons.positions, skeletons.edges[kept]
        self._segments = np.zeros(len(voxels), np.uint64)
        self._begin, self._size = roi.begin, size
        self._voxels = voxels
        nodes = np.flatnonzero(inside)
        blocks, index = np.unique(voxels[nodes] // _BLOCK, axis=0, return_inverse=True)
        order = np.argsort(index.ravel(), kind="stable")
        parts = np.split(nodes[order], np.cumsum(np.bincount(index.ravel()))[:-1])
        self._by_block = {tuple(block): part for block, part in zip(blocks.tolist(), parts, strict=True)}

    def look_up(self, tile: Roi, segmented: np.ndarray) -> None:
        """Take the ids of the nodes in a block."""
        first = (tile.begin - self._begin) // self._size
        nodes = self._by_block.get(tuple(int(n) // _BLOCK for n in first))
        if nodes is not None:
            voxels = self._voxels[nodes] - np.array(first)
            self._segments[nodes] = segmented[tuple(voxels.T)]

    def run_length(self) -> RunLength:
        """Return the expected run length."""
        return expected_run_length(self._positions, self._edges, self._segments)


def true_instances(dataset: Dataset, classes: Sequence[str]) -> dict[str, ClassVolume]:
    """Return the label volumes of instances to compare with, by class.

    Raises:
        ConfigError: the source has none, or not of these classes.
    """
    options, field = dataset.source.config, dataset.source.field
    volumes = dataset.class_volumes()
    for name in classes:
        if name not in dataset.groups:
            raise ConfigError(f"there is no class {name!r} to compare; {suggest(name, list(dataset.groups))}")
    if options.encoding == "ids":
        raise ConfigError(
            f"{field}.encoding is ids, which are of classes; a segmentation is compared with a number for each object: "
            "the encoding instances, or a label volume of them"
        )
    if options.encoding == "instances":
        own = options.instances_of or next(iter(dataset.groups))
        if wrong := [name for name in classes if name != own]:
            raise ConfigError(f"{field} has instances of {own}, not of {wrong[0]}")
        return {own: volumes[own]}
    if not classes:
        raise ConfigError(
            f"{field} has a label volume for each class: say with --classes which of {', '.join(dataset.groups)} have "
            "a number for each object"
        )
    found = {}
    for name in classes:
        members = dataset.groups[name]
        if len(members) > 1:
            raise ConfigError(f"{name} unites {', '.join(members)}, whose numbers are not those of the same objects")
        if volumes[members[0]].volume is None:
            raise ConfigError(f"{field}.labels has no label volume of {name}")
        found[name] = volumes[members[0]]
    return found


def _segmented(path: StrPath, name: str, alone: bool) -> MultiscaleImage:
    """Open the volume of ids of a class: ``path/name``, or ``path`` for a class alone.

    Raises:
        FileNotFoundError: there is none.
        ConfigError: it has several channels.
        DataError: it does not hold whole numbers.
    """
    of_class = join(path, name)
    if find_node(of_class) is not None:
        path = of_class
    elif not alone:
        raise FileNotFoundError(f"there is no segmentation of {name} at {of_class}")
    image = MultiscaleImage.open(path)
    if image.channels != 1:
        raise ConfigError(f"{image.path} has {image.channels} channels; a volume of ids has one")
    if image.dtype.kind not in "biu":
        raise DataError(f"{image.path} holds {image.dtype}; ids have to be whole numbers: segment the prediction first")
    return image
