"""The task of the blockwise engine that segments: for each class fragments, edges, objects, and coarser levels."""

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
from scalenet_gp.pipelines.segmentation.class_source import ClassSource
from scalenet_gp.pipelines.segmentation.fragments import Fragments
from scalenet_gp.pipelines.segmentation.job import SegmentationJob, SegmentedClass
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
from scalenet_gp.segmentation import BallOpening, Heights, background_connectivity
from scalenet_gp.serialization import package_versions
from scalenet_gp.volumes import MultiscaleArrayWriter, create_group, create_image, update_attributes

__all__ = ["SegmentationTask", "fillable"]

Work = Callable[[Roi], None]

_PACKAGES = ("scalenet_gp", "connected-components-3d", "edt", "daisy", "tensorstore")


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
        for name, part in self.job.classes.items():
            self._fragments(name).create(basins=part.options.kind == "watershed")
            if part.options.hole_voxels(part.voxel_size):
                self._holes(name).create()
        self.job.write()
        return self

    def stages(self) -> Iterator[BlockStage]:
        """Yield the steps of each class in their order."""
        for name in self.job.classes:
            yield from (stage for stage, _ in self._steps(name))

    @contextmanager
    def prepare(self, stage: str, device: str | None) -> Iterator[Work]:
        """Yield the function that does a block of a step."""
        for name in self.job.classes:
            for step, begin in self._steps(name):
                if step.name == stage:
                    yield begin()
                    return
        raise ValueError(f"there is no step {stage!r}")

    def describe(self, stage: str, roi: Roi) -> str:
        """Return the ROI of a block in nm."""
        part = next(
            part for name, part in self.job.classes.items() for step, _ in self._steps(name) if step.name == stage
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
            for name, part in self.job.classes.items()
        ]
        write_objects(objects_path(self.folder.output), found)
        update_attributes(self.folder.group, {"objects": summarize(found)})
        self.folder.group.rename(self.folder.output)
        shutil.rmtree(self.folder.path)

    def _steps(self, name: str) -> Iterator[tuple[BlockStage, Callable[[], Work]]]:
        """Yield each step of a class with the function that begins it in a process."""
        part, fragments = self.job.classes[name], self._fragments(name)
        options, voxel_size = part.options, part.voxel_size
        source = partial(ClassSource, self.job.prediction, part)
        largest = options.hole_voxels(voxel_size)
        holes = self._holes(name) if largest else None

        def stage(step: str, block: tuple[int, ...] = part.block, light: bool = True) -> BlockStage:
            tracking = self.folder.tracking / name / step.replace(" ", "_")
            region = Roi((0,) * len(part.shape), part.shape)
            return BlockStage(f"{name} {step}", region, Coordinate(block), tracking, math.prod(part.shape), light=light)

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
        yield stage("merging", part.shape), lambda: lambda roi: self._merge(name)
        boxes = level_boxes(part.layout(1), part.block)
        within = min(boxes, default=part.layout(1).levels)
        yield stage("objects"), lambda: WriteObjects(fragments, self._volume(name), within)
        for level, box in boxes.items():
            yield stage(f"level {level}", box), partial(self._coarsening, name, level)

    def _merge(self, name: str) -> None:
        """Number the objects of a class, and create their volume."""
        part = self.job.classes[name]
        smallest = part.options.smallest_voxels(part.voxel_size)
        depth = None
        if part.options.kind == "watershed":
            depth = Heights(part.options.depth, part.voxel_size).length(part.options.depth)
        objects = self._fragments(name).merge(lambda rows: rows["voxels"] >= smallest, depth)
        path = self._path(name)
        shutil.rmtree(path, ignore_errors=True)  # of a process that was killed before the step was noted as done
        create_image(path, part.layout(len(objects)), {"class": name, "source": part.source.path}, name)

    def _coarsening(self, name: str, level: int) -> Work:
        volume = self._volume(name)
        return lambda roi: coarsen(volume, level, roi.begin, roi.end)

    def _path(self, name: str) -> Path:
        return self.folder.group / name

    def _volume(self, name: str) -> MultiscaleArrayWriter:
        return MultiscaleArrayWriter.open(self._path(name))

    def _fragments(self, name: str) -> Fragments:
        return _files(self.folder.path / _FRAGMENTS / name, self.job.classes[name])

    def _holes(self, name: str) -> Fragments:
        return _files(self.folder.path / _HOLES / name, self.job.classes[name])


_FRAGMENTS = "fragments"
_HOLES = "holes"


def _files(path: Path, part: SegmentedClass) -> Fragments:
    return Fragments(path, part.shape, part.block, part.chunks)


def _numbered(background: Fragments, largest: int) -> None:
    background.merge(fillable(background.shape, largest))


def fillable(shape: Sequence[int], largest: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that chooses the components of the background that are filled, from their measures.

    They have up to ``largest`` voxels, and do not reach the border of the region.
    """
    return lambda rows: (
        (rows["voxels"] <= largest)
        & (rows["begin"] > 0).all(axis=1)
        & (rows["end"] < np.asarray(shape, np.int64)).all(axis=1)
    )
