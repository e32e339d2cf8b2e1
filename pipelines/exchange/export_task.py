"""The task of the blockwise engine that exports: the blocks of each level that the format holds."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import final

from funlib.geometry import Coordinate, Roi

from scalenet_gp.exchange import VolumeOutput, output_of, volume_of
from scalenet_gp.geometry import exact_size
from scalenet_gp.pipelines.blockwise import BlockStage, BlockTask, WorkFolder
from scalenet_gp.pipelines.exchange.jobs import ExportJob
from scalenet_gp.volumes import MultiscaleImage

__all__ = ["ExportTask", "open_image"]

_EXPORTING = "exporting"
_LEVEL = "exporting level "


@final
@dataclass(frozen=True)
class ExportTask(BlockTask):
    """Writes the blocks of every level. Its ROIs count voxels of the level.

    Attributes:
        job: the job.
        image: the volume to export.
        output: the format to write.
    """

    doing = "being exported"
    worker = "scalenet_gp.pipelines.exchange.worker"

    job: ExportJob
    image: MultiscaleImage
    output: VolumeOutput

    @classmethod
    def open(cls, job: ExportJob) -> ExportTask:
        """Open a job.

        Raises:
            FileNotFoundError, VolumeFormatError: as :meth:`.MultiscaleImage.open`.
            ArgumentError: there is no such format or channel.
        """
        image = open_image(job.source, job.channel)
        corner = exact_size(job.corner)
        levels = [replace(level, begin=corner) for level in image.levels]
        channels = image.channels if image.channels > 1 else None
        return cls(job, image, output_of(job.output)(levels, channels, image.dtype, job.labels))

    @property
    def folder(self) -> WorkFolder:
        """The folder of the unfinished volume."""
        return self.job.folder

    def create_or_resume(self) -> ExportTask:
        """Create the file, or check that the unfinished one is this export's.

        A format that an interrupted process may leave damaged is begun anew.

        Raises:
            ConfigError: it is not.
        """
        begun = self.job.resumed()
        if begun is not None and self.output.many:
            return replace(self, job=begun)
        folder = self.folder
        folder.job.unlink(missing_ok=True)
        for left in (folder.group, folder.tracking):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
        self.output.create(folder.group)
        self.job.write()
        return self

    def stages(self) -> Iterator[BlockStage]:
        """Yield the blocks of each level."""
        for index, level in enumerate(self.output.levels):
            roi = Roi((0,) * len(level.shape), level.shape)
            name = f"{_LEVEL}{index}" if index else _EXPORTING
            tracking = self.folder.tracking / f"s{index}"
            yield BlockStage(name, roi, Coordinate(self.job.block), tracking, math.prod(level.shape), light=True)

    @contextmanager
    def prepare(self, stage: str, device: str | None) -> Iterator[Callable[[Roi], None]]:
        """Yield the function that exports a block of a level."""
        level = 0 if stage == _EXPORTING else int(stage.removeprefix(_LEVEL))
        with volume_of(self.image, level) as source, self.output.writing(self.folder.group) as write:
            yield lambda roi: write(level, roi.begin, source.read(roi.begin, roi.end))

    def describe(self, stage: str, roi: Roi) -> str:
        """Return the ROI of a block in voxels."""
        return f"voxels {tuple(roi.begin)} to {tuple(roi.end)}"

    def finish(self) -> None:
        """Give the volume its name, and remove everything else."""
        self.folder.group.rename(self.folder.output)
        shutil.rmtree(self.folder.path)


def open_image(source: str, channel: str | None) -> MultiscaleImage:
    """Open the volume to export, with all channels or one: by its index or its name."""
    if channel is None:
        return MultiscaleImage.open(source)
    return MultiscaleImage.open(source, select={"c": int(channel) if channel.isdecimal() else channel})
