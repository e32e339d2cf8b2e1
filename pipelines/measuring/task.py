"""The task of the blockwise engine that measures: the sums of every block, and then the tables."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.geometry import format_size
from scalenet_gp.pipelines.blockwise import BlockStage, BlockTask, WorkFolder, block_file
from scalenet_gp.pipelines.measuring.job import MeasuringJob
from scalenet_gp.pipelines.measuring.summary import RECORD, summarize
from scalenet_gp.pipelines.measuring.tables import contact_columns, object_columns, write_table
from scalenet_gp.pipelines.measuring.volumes import MeasuredVolumes
from scalenet_gp.segmentation import (
    contact_type,
    count_overlaps,
    measure_objects,
    measure_type,
    merge_contacts,
    merge_measures,
    merge_overlaps,
    overlap_type,
)
from scalenet_gp.serialization import atomic_write, package_versions

__all__ = ["MeasuringTask"]

_SUMS = "sums"

_PACKAGES = ("scalenet_gp", "fastremap", "daisy", "tensorstore")


@final
@dataclass(frozen=True)
class MeasuringTask(BlockTask):
    """Measures the objects of volumes of ids, one volume after the other. Its ROIs count voxels of the volume.

    Attributes:
        job: the job.
    """

    doing = "being measured"
    worker = "scalenet_gp.pipelines.measuring.worker"

    job: MeasuringJob

    @property
    def folder(self) -> WorkFolder:
        """The folder of the unfinished measurement."""
        return self.job.folder

    def create_or_resume(self) -> MeasuringTask:
        """Create the folder of sums, or check that those there are this measurement's.

        Raises:
            ConfigError: they are not.
        """
        begun = self.job.resumed()
        if begun is not None:
            # volumes may have been moved since; the blocks stay those that were begun with
            classes = {
                name: part.model_copy(update={"block": begun.classes[name].block})
                for name, part in self.job.classes.items()
            }
            task = replace(self, job=self.job.model_copy(update={"classes": classes}))
            task.job.write()
            return task
        folder = self.folder
        folder.job.unlink(missing_ok=True)
        for left in (folder.group, folder.tracking, folder.path / _SUMS):
            shutil.rmtree(left, ignore_errors=True)
        for made in (folder.group, *map(self._sums, self.job.classes)):
            made.mkdir(parents=True)
        self.job.write()
        return self

    def stages(self) -> Iterator[BlockStage]:
        """Yield the blocks of each volume of ids."""
        for name, part in self.job.classes.items():
            shape = part.ids.shape
            region, tracking = Roi((0,) * len(shape), shape), self.folder.tracking / name
            yield BlockStage(f"{name} objects", region, Coordinate(part.block), tracking, math.prod(shape), light=True)

    @contextmanager
    def prepare(self, stage: str, device: str | None) -> Iterator[Callable[[Roi], None]]:
        """Yield the function that measures a block."""
        name = stage.removesuffix(" objects")
        volumes, folder = MeasuredVolumes(self.job.classes[name]), self._sums(name)
        yield lambda roi: _measure_block(volumes, roi, folder)

    def describe(self, stage: str, roi: Roi) -> str:
        """Return the ROI of a block in nm."""
        ids = self.job.classes[stage.removesuffix(" objects")].ids
        corners = (
            [c + int(b) * v for c, b, v in zip(ids.begin, edge, ids.voxel_size, strict=True)]
            for edge in (roi.begin, roi.end)
        )
        return f"{stage} in {' to '.join(format_size(corner) for corner in corners)} nm"

    def finish(self) -> None:
        """Write the tables, give their folder its name, and remove everything else."""
        objects, contacts = [], []
        for name, part in self.job.classes.items():
            none = _nothing(len(part.ids.shape), len(part.values))
            rows, touching, overlaps = map(np.concatenate, zip(none, *self._blocks(name), strict=True))
            touching = merge_contacts(touching)
            parents = None if part.parents is None else merge_overlaps(overlaps)
            objects.append(object_columns(name, part, merge_measures(rows), touching, parents))
            contacts.append(contact_columns(name, part, touching))
        write_table(self.folder.group / "objects", objects)
        write_table(self.folder.group / "contacts", contacts)
        record = {
            "job": self.job.model_dump(mode="json"),
            "versions": package_versions(_PACKAGES),
            "objects": {name: summarize(columns) for name, columns in zip(self.job.classes, objects, strict=True)},
        }
        with atomic_write(self.folder.group / RECORD) as beside:
            beside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        self.folder.group.rename(self.folder.output)
        shutil.rmtree(self.folder.path)

    def _sums(self, name: str) -> Path:
        return self.folder.path / _SUMS / name

    def _blocks(self, name: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for path in sorted(self._sums(name).glob("*.npz")):
            with np.load(path) as sums:
                yield sums["objects"], sums["contacts"], sums["overlaps"]


def _nothing(dims: int, values: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sums of a block without objects."""
    return np.zeros(0, measure_type(dims, values)), np.zeros(0, contact_type(dims)), np.zeros(0, overlap_type())


def _measure_block(volumes: MeasuredVolumes, roi: Roi, folder: Path) -> None:
    """Store the sums of a block."""
    begin, end = (tuple(map(int, edge)) for edge in (roi.begin, roi.end))
    first = tuple(max(b - 1, 0) for b in begin)
    around = volumes.ids(first, tuple(min(e + 1, n) for e, n in zip(end, volumes.shape, strict=True)))
    inner = tuple(slice(b - f, e - f) for b, e, f in zip(begin, end, first, strict=True))
    if not around.any():  # nothing else needs to be read
        return
    rows, contacts = measure_objects(around, volumes.values(begin, end), begin, inner)
    parents = volumes.parents(begin, end)
    overlaps = np.zeros(0, overlap_type()) if parents is None else count_overlaps(around[inner], parents)
    with block_file(folder / f"{'_'.join(map(str, begin))}.npz") as file:
        np.savez(file, objects=rows, contacts=contacts, overlaps=overlaps)
