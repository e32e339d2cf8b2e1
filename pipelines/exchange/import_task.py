"""The task of the blockwise engine that imports: the blocks, then the levels that they do not make."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import final

from funlib.geometry import Coordinate, Roi

from scalenet_gp.pipelines.blockwise import (
    BlockStage,
    BlockTask,
    WorkFolder,
    coarsen,
    level_boxes,
)
from scalenet_gp.pipelines.exchange.jobs import ImportJob
from scalenet_gp.volumes import MultiscaleArrayWriter, create_image, create_parents

__all__ = ["ImportTask"]

_IMPORTING = "importing"
_LEVEL = "level "


@final
@dataclass(frozen=True)
class ImportTask(BlockTask):
    """Writes the blocks of a volume, and its coarser levels. Its ROIs count voxels.

    Attributes:
        job: the job.
    """

    doing = "being imported"
    worker = "scalenet_gp.pipelines.exchange.worker"

    job: ImportJob

    @property
    def folder(self) -> WorkFolder:
        """The folder of the unfinished volume."""
        return self.job.folder

    def create_or_resume(self) -> ImportTask:
        """Create the volume, or check that the unfinished one is this import's.

        Raises:
            ConfigError: it is not.
        """
        begun = self.job.resumed()
        if begun is not None:
            return replace(self, job=begun)
        folder = self.folder
        folder.job.unlink(missing_ok=True)
        for left in (folder.group, folder.tracking):
            shutil.rmtree(left, ignore_errors=True)
        source = f"{self.job.source}/{self.job.dataset}" if self.job.dataset else self.job.source
        create_image(folder.group, self.job.layout, {"imported_from": source}, version=self.job.ome_zarr)
        self.job.write()
        return self

    def stages(self) -> Iterator[BlockStage]:
        """Yield the blocks, and each level that is not made with them."""
        layout, block = self.job.layout, self.job.block
        roi = Roi((0,) * len(block), layout.shape)
        voxels, tracking = math.prod(layout.shape), self.folder.tracking
        yield BlockStage(_IMPORTING, roi, Coordinate(block), tracking, voxels, light=True)
        for level, box in level_boxes(layout, block).items():
            yield BlockStage(f"{_LEVEL}{level}", roi, Coordinate(box), tracking / f"s{level}", voxels, light=True)

    @contextmanager
    def prepare(self, stage: str, device: str | None) -> Iterator[Callable[[Roi], None]]:
        """Yield the function that imports a block, or makes a box of a level."""
        volume = MultiscaleArrayWriter.open(self.folder.group)
        if stage != _IMPORTING:
            level = int(stage.removeprefix(_LEVEL))
            yield lambda roi: coarsen(volume, level, roi.begin, roi.end)
            return
        with self.job.open_source() as source:
            left = level_boxes(self.job.layout, self.job.block)

            def write(roi: Roi) -> None:
                volume.write(roi.begin, source.read(roi.begin, roi.end))
                for level in range(1, min(left, default=self.job.layout.levels)):
                    coarsen(volume, level, roi.begin, roi.end)

            yield write

    def describe(self, stage: str, roi: Roi) -> str:
        """Return the ROI of a block in voxels."""
        return f"voxels {tuple(roi.begin)} to {tuple(roi.end)}"

    def finish(self) -> None:
        """Give the volume its name, make the folders above it groups, and remove everything else."""
        create_parents(self.folder.output, 2 if self.job.ome_zarr == "0.4" else 3)
        self.folder.group.rename(self.folder.output)
        shutil.rmtree(self.folder.path)
