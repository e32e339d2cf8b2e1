"""What is to be predicted: all that a process needs that shares nothing with the others but the file system."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, ValidationError

from scalenet_gp.errors import ConfigError
from scalenet_gp.inference import Weight
from scalenet_gp.options import Options
from scalenet_gp.pipelines.config import Config, PredictionOptions, Region
from scalenet_gp.serialization import atomic_write

__all__ = ["NetworkFile", "PredictionJob", "partial_path"]

logger = logging.getLogger(__name__)

_WITHOUT_VOXELS = (
    "config.training",
    "config.augmentation",
    "config.validation",
    "config.evaluation",
    "config.data.cache",
    "output",
    "thickness",
)
"""What the voxels of a prediction do not depend on, but for the rounding of floats."""


class NetworkFile(Options):
    """A checkpoint to predict with.

    Attributes:
        path: the file.
        sha256: of its content: a file such as ``best.safetensors`` may be another one tomorrow.
        weight: what it counts among several: one number, or by output one for each class.
    """

    path: Path
    sha256: str
    weight: PositiveFloat | dict[str, tuple[NonNegativeFloat, ...]] = 1.0

    @classmethod
    def of(cls, path: Path, weight: Weight = 1.0) -> NetworkFile:
        """The checkpoint that is there now.

        Raises:
            FileNotFoundError: there is none.
        """
        if not path.is_file():
            raise FileNotFoundError(f"there is no checkpoint {path}")
        return cls.model_validate({"path": path.resolve(), "sha256": _digest(path), "weight": weight})

    def check(self, kept: Path) -> Path:
        """Which file still is the one that it was: its copy, if there is one, or itself.

        Args:
            kept: where a copy would be.

        Raises:
            FileNotFoundError: it is gone.
            ValueError: it is another one.
        """
        if kept.is_file() and _digest(kept) == self.sha256:
            return kept
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} is gone; the prediction that uses it cannot go on")
        if _digest(self.path) != self.sha256:
            raise ConfigError(f"{self.path} is not the file that this prediction began with; put that one back")
        return self.path


class PredictionJob(Options):
    """A prediction. Paths are absolute; processes and devices are no part of it.

    Attributes:
        config: the run; of its options of prediction the outputs are named, and the mask's path is absolute.
        volume: folder or URL of the raw data.
        networks: the checkpoints; of several the predictions are averaged.
        output: zarr group to make.
        region: what to predict; no bound of it is open.
        thickness: of the slabs in which a block is computed, world units; that of the block if None. The first run that
            begins the prediction chooses it.
    """

    config: Config
    volume: str
    networks: tuple[NetworkFile, ...] = Field(min_length=1)
    output: Path
    region: Region
    thickness: int | None = None

    @property
    def options(self) -> PredictionOptions:
        """The options of prediction."""
        return self.config.prediction

    @property
    def partial(self) -> Path:
        """The folder of the unfinished prediction."""
        return partial_path(self.output)

    @property
    def file(self) -> Path:
        """Where :meth:`write` puts it."""
        return self.partial / "job.json"

    @property
    def failed(self) -> Path:
        """The folder of the causes of what failed."""
        return self.partial / "failed"

    @property
    def times(self) -> Path:
        """The folder of when each block was done."""
        return self.partial / "times"

    @property
    def tracking(self) -> Path:
        """The folder in which daisy keeps which blocks are done."""
        return self.partial / "tracking"

    def kept(self, index: int) -> Path:
        """Where the copy of a checkpoint is, as training may replace the file itself."""
        return self.partial / "networks" / f"{index}.safetensors"

    def keep_networks(self) -> None:
        """Copy the checkpoints beside the job, each whole or not at all."""
        for index, network in enumerate(self.networks):
            if network.check(self.kept(index)) == network.path:
                self.kept(index).parent.mkdir(exist_ok=True)
                with atomic_write(self.kept(index)) as beside:
                    shutil.copyfile(network.path, beside)

    def resume(self) -> PredictionJob:
        """This job with the checkpoints that it was begun with, if these were the same files; their content is kept."""
        if not self.file.exists():
            return self
        begun = PredictionJob.read(self.file)
        files = [[(network.path, network.weight) for network in job.networks] for job in (begun, self)]
        if files[0] != files[1] or not all(begun.kept(index).is_file() for index in range(len(begun.networks))):
            return self
        for before, now in zip(begun.networks, self.networks, strict=True):
            if before.sha256 != now.sha256:
                logger.warning("%s has changed; the prediction goes on with what it was when it began", now.path)
        return self.model_copy(update={"networks": begun.networks})

    @property
    def group(self) -> Path:
        """The zarr group, as long as it is unfinished."""
        return self.partial / self.output.name

    @classmethod
    def read(cls, path: Path) -> PredictionJob:
        """The job in a file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is none.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ConfigError(f"{path} is no job of this version: {error}") from error

    def write(self) -> None:
        """Write it to :attr:`file`, whole or not at all."""
        with atomic_write(self.file) as beside:
            beside.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    def differences(self, other: PredictionJob) -> list[str]:
        """Return the fields that change voxels and differ, each as ``prediction.stored: "uint8" and "float32"``."""
        mine, others = (dict(_flat("", job.model_dump(mode="json"))) for job in (self, other))
        unequal = [name for name in mine | others if mine.get(name) != others.get(name)]
        return [
            f"{name.removeprefix('config.')}: {json.dumps(mine.get(name))} and {json.dumps(others.get(name))}"
            for name in unequal
        ]


def partial_path(output: Path) -> Path:
    """The folder of an unfinished prediction, beside what it will be."""
    return output.with_name(f"{output.name}.partial")


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """The values that matter, by their dotted names."""
    if name in _WITHOUT_VOXELS or (name.startswith("networks.") and name.endswith(".path")):
        return []
    if isinstance(value, dict):
        return [pair for key, below in value.items() for pair in _flat(f"{name}.{key}".lstrip("."), below)]
    if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        return [pair for number, below in enumerate(value) for pair in _flat(f"{name}.{number}", below)]
    return [(name, value)]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
