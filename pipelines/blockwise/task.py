"""A task that is done block by block: its folder, its stages, and what it does with a block."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, final

import daisy.v2 as daisy
import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.volumes import open_array

__all__ = ["BlockStage", "BlockTask", "WorkFolder"]

_RETRIES = 3
_RESTARTS = 3
"""Workers that daisy starts in place of one that died, on average, before it gives up."""
_TIMEOUT = 6 * 3600.0
"""Seconds after which a worker that has a block is taken to hang, and is ended."""


@final
@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The folder of unfinished work, beside the output that it will be.

    Attributes:
        output: the zarr group that is made.

    Example:
        >>> WorkFolder(Path("out.zarr")).path.name
        'out.zarr.partial'
    """

    output: Path

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.output.with_name(f"{self.output.name}.partial")

    @property
    def job(self) -> Path:
        """The file from which a worker opens the task."""
        return self.path / "job.json"

    @property
    def group(self) -> Path:
        """The zarr group until it is finished."""
        return self.path / self.output.name

    @property
    def tracking(self) -> Path:
        """The folder in which daisy keeps which blocks are done."""
        return self.path / "tracking"

    @property
    def failed(self) -> Path:
        """The folder of the causes of failed blocks."""
        return self.path / "failed"

    @property
    def times(self) -> Path:
        """The folder of records of when each block was done."""
        return self.path / "times"

    @property
    def devices(self) -> Path:
        """The folder of locks of devices."""
        return self.path / "devices"

    @property
    def log(self) -> Path:
        """The folder of the workers' logs."""
        return self.path / "log"


@final
@dataclass(frozen=True, slots=True, eq=False)
class BlockStage:
    """Blocks that can be done in any order. A stage begins when the one before it is done.

    Attributes:
        name: name of the stage, which is shown too: "predicting".
        roi: region that is divided into blocks, world units.
        block: shape of a block, world units; the last one along an axis is as small as the rest.
        tracking: folder in which daisy keeps which blocks are done.
        voxels: number of voxels in the region, of which the progress is shown.
        skipped: nonzero for each block that is left out, in the shape of the grid; None if none is.
        light: True if a block takes no device and little time. This process then does the last few alone.
    """

    name: str
    roi: Roi
    block: Coordinate
    tracking: Path
    voxels: int
    skipped: NDArray[np.uint8] | None = None
    light: bool = False

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        lengths = zip(self.roi.shape, self.block, strict=True)
        return math.prod(-(-int(extent) // int(length)) for extent, length in lengths)

    def done(self) -> int:
        """Return the number of blocks that are done or left out."""
        settled = [] if self.skipped is None else [self.skipped]
        if (self.tracking / "done").exists():
            settled.append(open_array(self.tracking / "done")[:])
        return int(np.any(settled, axis=0).sum())

    def daisy_task(self, workers: int) -> daisy.Task:
        """Return the task that daisy hands out to ``workers`` processes, without the function that does a block."""
        block = Roi((0,) * self.block.dims, self.block)
        return daisy.Task(
            self.name.replace(" ", "_"),
            self.roi,
            block,
            block,  # what is read is another volume: no block waits for another
            read_write_conflict=False,
            fit="shrink",
            max_workers=max(workers, 1),
            max_retries=_RETRIES,
            max_worker_restarts=max(10, _RESTARTS * workers),
            timeout=_TIMEOUT,
            tracking_path=str(self.tracking),
            skip_mask=self.skipped,
        )


class BlockTask(ABC):
    """Abstract: a task that processes do block by block, in stages, and that can be resumed.

    Attributes:
        doing: what happens to the output, for messages: "being predicted".
        worker: name of the module that a worker process runs (``python -m``); it calls :func:`.run_worker`.
    """

    doing: ClassVar[str]
    worker: ClassVar[str]

    @property
    @abstractmethod
    def folder(self) -> WorkFolder:
        """The folder of the unfinished work."""

    @abstractmethod
    def create_or_resume(self) -> Self:
        """Create the volumes and the job file in the folder, or check that those there are this task's.

        It runs in one process, which has locked the folder.

        Returns:
            The task to resume.

        Raises:
            ConfigError: the folder has another task's work.
        """

    @abstractmethod
    def stages(self) -> Iterable[BlockStage]:
        """Return the stages in their order; the folder has been created."""

    @abstractmethod
    def prepare(self, stage: str, device: str | None) -> AbstractContextManager[Callable[[Roi], None]]:
        """Return a context in which blocks of a stage are done by calling its value with their ROI (world units).

        Several threads may call it at once. When a call returns, the block is on the disk.

        Args:
            stage: name of the stage.
            device: name of a torch device; the first GPU unless given, the processor where there is none.
        """

    @abstractmethod
    def describe(self, stage: str, roi: Roi) -> str:
        """Return the ROI of a block of a stage as a user names it."""

    @abstractmethod
    def finish(self) -> None:
        """Give the output its name, and remove the folder."""
