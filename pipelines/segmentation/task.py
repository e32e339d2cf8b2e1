"""The task of the blockwise engine that segments: fragments, edges, merging, objects, and coarser levels."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.geometry import format_size
from scalenet_gp.pipelines.blockwise import BlockStage, BlockTask, WorkFolder, coarsen, level_boxes
from scalenet_gp.pipelines.config import FRAGMENTS
from scalenet_gp.pipelines.segmentation.affinity_source import AffinityMask, AffinitySource
from scalenet_gp.pipelines.segmentation.affinity_steps import FindMutexFragments, SumEdges, SumKinds, merge_affinities
from scalenet_gp.pipelines.segmentation.class_source import ClassSource
from scalenet_gp.pipelines.segmentation.fragments import Fragments
from scalenet_gp.pipelines.segmentation.job import (
    SegmentationJob,
    SegmentedAffinities,
    SegmentedClass,
    SegmentedVolume,
)
from scalenet_gp.pipelines.segmentation.kind_source import KindSource
from scalenet_gp.pipelines.segmentation.lookup import LookupTables
from scalenet_gp.pipelines.segmentation.steps import (
    FindBasins,
    FindComponents,
    FindEdges,
    FindHoles,
    FindPasses,
    ObjectMask,
    WriteObjects,
)
from scalenet_gp.pipelines.segmentation.summary import summarize
from scalenet_gp.pipelines.segmentation.table import ClassObjects, objects_path, write_objects
from scalenet_gp.segmentation import BallOpening, Heights, background_connectivity, join_basins, join_fragments
from scalenet_gp.serialization import package_versions
from scalenet_gp.volumes import MultiscaleArrayWriter, create_group, create_image, update_attributes

__all__ = ["SegmentationTask", "fillable"]

Work = Callable[[Roi], None]

Step = tuple[BlockStage, Callable[[], Work]]

_PACKAGES = ("scalenet_gp", "connected-components-3d", "edt", "mwatershed", "daisy", "tensorstore")


@final
@dataclass(frozen=True)
class SegmentationTask(BlockTask):
    """Segments the classes of a prediction, one after the other. Its ROIs count voxels of the class's region.

    Attributes:
        job: the job.
    """

    doing = "being segmented"
    worker = "scalenet_gp.pipelines.segmentation.worker"

    job: SegmentationJob

    @property
    def folder(self) -> WorkFolder:
        """The folder of the unfinished segmentation."""
        return self.job.folder

    def create_or_resume(self) -> SegmentationTask:
        """Create the group and the files of fragments, or check that those there are this segmentation's.

        Raises:
            ConfigError: they are not.
        """
        begun = self.job.resumed()
        if begun is not None:
            # the prediction may have been moved since
            task = replace(self, job=begun.model_copy(update={"prediction": self.job.prediction}))
            task.job.write()
            return task
        folder = self.folder
        folder.job.unlink(missing_ok=True)
        for left in (folder.group, folder.tracking, folder.path / _FRAGMENTS, folder.path / _HOLES):
            shutil.rmtree(left, ignore_errors=True)
        versions = package_versions(_PACKAGES)
        create_group(folder.group, {"job": self.job.model_dump(mode="json"), "versions": versions})
        for name, part in self.job.parts.items():
            scores = isinstance(part, SegmentedAffinities)
            self._fragments(name).create(part.options.kind in ("watershed", "agglomerate"), scores)
            if part.keeps_fragments:
                create_image(self._path(f"{name}{FRAGMENTS}"), part.fragments_layout(), {"fragments of": name}, name)
            if isinstance(part, SegmentedClass) and part.options.hole_voxels(part.voxel_size):
                self._holes(name).create()
        self.job.write()
        return self

    def stages(self) -> Iterator[BlockStage]:
        """Yield the steps of each class in their order."""
        for name in self.job.parts:
            yield from (stage for stage, _ in self._steps(name))

    @contextmanager
    def prepare(self, stage: str, device: str | None) -> Iterator[Work]:
        """Yield the function that does a block of a step."""
        for name in self.job.parts:
            for step, begin in self._steps(name):
                if step.name == stage:
                    yield begin()
                    return
        raise ValueError(f"there is no step {stage!r}")

    def describe(self, stage: str, roi: Roi) -> str:
        """Return the ROI of a block in nm."""
        part = next(
            part for name, part in self.job.parts.items() for step, _ in self._steps(name) if step.name == stage
        )
        corners = (
            [c + int(b) * v for c, b, v in zip(part.corner, edge, part.voxel_size, strict=True)]
            for edge in (roi.begin, roi.end)
        )
        return f"{stage} of {' to '.join(format_size(corner) for corner in corners)} nm"

    def finish(self) -> None:
        """Write the table of objects, give the segmentation its name, and remove everything else."""
        found = [
            ClassObjects(name, self._fragments(name).objects(), part.voxel_size, part.corner)
            for name, part in self.job.parts.items()
        ]
        write_objects(objects_path(self.folder.output), found)
        update_attributes(self.folder.group, {"objects": summarize(found)})
        self.folder.group.rename(self.folder.output)
        shutil.rmtree(self.folder.path)

    def _steps(self, name: str) -> Iterator[Step]:
        """Yield each step of a class or of objects with the function that begins it in a process."""
        part, fragments = self.job.parts[name], self._fragments(name)

        def stage(step: str, block: tuple[int, ...] = part.block, light: bool = True) -> BlockStage:
            tracking = self.folder.tracking / name / step.replace(" ", "_")
            region = Roi((0,) * len(part.shape), part.shape)
            return BlockStage(f"{name} {step}", region, Coordinate(block), tracking, math.prod(part.shape), light=light)

        if isinstance(part, SegmentedClass):
            yield from self._class_steps(name, part, stage)
        else:
            yield from self._affinity_steps(name, part, stage)
        boxes = level_boxes(part.layout(1), part.block)
        within = min(boxes, default=part.layout(1).levels)
        yield stage("objects"), lambda: WriteObjects(fragments, self._volume(name), within, self._kept(name))
        for level, box in boxes.items():
            yield stage(f"level {level}", box), partial(self._coarsening, name, level)

    def _class_steps(self, name: str, part: SegmentedClass, stage: Callable[..., BlockStage]) -> Iterator[Step]:
        """Yield the steps to the numbers of a class's fragments."""
        fragments, options, voxel_size = self._fragments(name), part.options, part.voxel_size
        source = partial(ClassSource, self.job.prediction, part)
        largest = options.hole_voxels(voxel_size)
        holes = self._holes(name) if largest else None
        if holes is not None:
            behind = background_connectivity(options.connectivity)
            yield stage("background", light=False), lambda: FindHoles(source(), holes, options.connectivity)
            yield stage("background edges"), lambda: FindEdges(holes, behind)
            yield stage("holes", part.shape), lambda: lambda roi: _numbered(holes, largest)
        opening = BallOpening(options.opening, voxel_size)

        def mask() -> ObjectMask:
            return ObjectMask(source(), holes, opening, part.shape)

        if options.kind == "watershed":
            heights = Heights(options.reach_in(voxel_size), voxel_size)
            yield (
                stage("fragments", light=False),
                lambda: FindBasins(mask(), heights, fragments, options.connectivity),
            )
            yield stage("edges", light=False), lambda: FindPasses(fragments, options.connectivity)
        else:
            yield stage("fragments", light=False), lambda: FindComponents(mask(), fragments, options.connectivity)
            yield stage("edges"), lambda: FindEdges(fragments, options.connectivity)
        yield stage("merging", part.shape), lambda: lambda roi: self._merge(name, part)

    def _affinity_steps(self, name: str, part: SegmentedAffinities, stage: Callable[..., BlockStage]) -> Iterator[Step]:
        """Yield the steps to the numbers of the fragments of affinities."""
        fragments, options, voxel_size = self._fragments(name), part.options, part.voxel_size
        source, kinds = partial(AffinitySource, self.job.prediction, part), part.kinds
        kind_source = partial(KindSource, self.job.prediction, part, kinds) if kinds is not None else lambda: None
        if options.kind == "agglomerate":
            heights = Heights(options.reach_in(voxel_size), voxel_size)

            def mask() -> AffinityMask:
                return AffinityMask(source(), options)

            yield stage("fragments", light=False), lambda: FindBasins(mask(), heights, fragments, 6)
            yield stage("passes", light=False), lambda: FindPasses(fragments, 6, mask())
        else:
            context = options.context_in(part.offsets, voxel_size)
            yield (
                stage("fragments", light=False),
                lambda: FindMutexFragments(source(), fragments, options, context, kind_source()),
            )
        yield stage("edges", light=False), lambda: SumEdges(source(), fragments, options)
        if kinds is not None:
            yield stage("kinds"), lambda: SumKinds(KindSource(self.job.prediction, part, kinds), fragments)
        yield stage("merging", part.shape), lambda: lambda roi: self._merge_affinities(name, part)

    def _merge(self, name: str, part: SegmentedClass) -> None:
        """Number the objects of a class, and create their volume."""
        options, fragments = part.options, self._fragments(name)
        smallest = options.smallest_voxels(part.voxel_size)

        def join(rows: np.ndarray) -> tuple[np.ndarray, int]:
            if options.kind == "components":
                return join_fragments(rows["id"], fragments.links())
            depth = Heights(options.depth, part.voxel_size).length(options.depth)
            return join_basins(rows, fragments.links(), fragments.passes(), depth)

        objects = fragments.merge(lambda rows: rows["voxels"] >= smallest, join)
        if part.keeps_fragments:
            ids, numbers = fragments.numbers()
            LookupTables(ids, (options.threshold or 0.0,), (numbers,)).write(self._path(f"{name}{FRAGMENTS}"))
        self._create(name, len(objects))

    def _merge_affinities(self, name: str, part: SegmentedAffinities) -> None:
        """Number the objects of affinities for every threshold, and create the volume of those of the method's own."""
        fragments, volume = self._fragments(name), self._path(f"{name}{FRAGMENTS}")
        self._create(name, merge_affinities(fragments, part, volume, name))

    def _create(self, name: str, largest: int) -> None:
        """Create the volume of objects, whose largest id this is."""
        part, path = self.job.parts[name], self._path(name)
        shutil.rmtree(path, ignore_errors=True)  # of a process that was killed before the step was noted as done
        create_image(path, part.layout(largest), {"class": name, "source": part.source.path}, name)

    def _coarsening(self, name: str, level: int) -> Work:
        volumes = [volume for volume in (self._volume(name), self._kept(name)) if volume is not None]

        def work(roi: Roi) -> None:
            for volume in volumes:
                coarsen(volume, level, roi.begin, roi.end)

        return work

    def _path(self, name: str) -> Path:
        return self.folder.group / name

    def _volume(self, name: str) -> MultiscaleArrayWriter:
        return MultiscaleArrayWriter.open(self._path(name))

    def _kept(self, name: str) -> MultiscaleArrayWriter | None:
        """Return the volume of fragments; None if it is not kept."""
        if not self.job.parts[name].keeps_fragments:
            return None
        return MultiscaleArrayWriter.open(self._path(f"{name}{FRAGMENTS}"))

    def _fragments(self, name: str) -> Fragments:
        part = self.job.parts[name]
        stored = None
        if part.keeps_fragments:
            stored = self._path(f"{name}{FRAGMENTS}") / part.fragments_layout().finest.path
        return _files(self.folder.path / _FRAGMENTS / name, part, stored)

    def _holes(self, name: str) -> Fragments:
        return _files(self.folder.path / _HOLES / name, self.job.parts[name])


_FRAGMENTS = "fragments"
_HOLES = "holes"


def _files(path: Path, part: SegmentedVolume, stored: Path | None = None) -> Fragments:
    return Fragments(path, part.shape, part.block, part.chunks, stored)


def _numbered(background: Fragments, largest: int) -> None:
    background.merge(fillable(background.shape, largest), lambda rows: join_fragments(rows["id"], background.links()))


def fillable(shape: Sequence[int], largest: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that chooses the components of the background that are filled, from their measures.

    They have up to ``largest`` voxels, and do not reach the border of the region.
    """
    return lambda rows: (
        (rows["voxels"] <= largest)
        & (rows["begin"] > 0).all(axis=1)
        & (rows["end"] < np.asarray(shape, np.int64)).all(axis=1)
    )
