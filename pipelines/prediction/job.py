"""The job file of a prediction: all that a worker needs, which shares only the file system with other processes."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, ValidationError

from scalenet_gp.errors import ConfigError
from scalenet_gp.inference import Weight
from scalenet_gp.options import Options, describe_problems
from scalenet_gp.pipelines.blockwise import WorkFolder
from scalenet_gp.pipelines.config import Config, PredictionOptions, Region
from scalenet_gp.serialization import atomic_write
from scalenet_gp.volumes import VolumeFingerprint

__all__ = ["NetworkFile", "PredictionJob"]

logger = logging.getLogger(__name__)

_VERSION: Literal[1] = 1

_WITHOUT_VOXELS = (
    "config.training",
    "config.augmentation",
    "config.validation",
    "config.evaluation",
    "config.segmentation",
    "config.data.cache",
    "config.learned_from",
    "raw",
    "output",
    "thickness",
)
"""Fields that change no voxel of a prediction, other than by rounding, and those that are compared otherwise."""


class NetworkFile(Options):
    """A checkpoint to predict with.

    Attributes:
        path: the file.
        sha256: digest of its content. A file such as ``best.safetensors`` may be replaced while a prediction runs.
        weight: weight among several networks: one number, or for each output one number per class.
    """

    path: Path
    sha256: str
    weight: PositiveFloat | dict[str, tuple[NonNegativeFloat, ...]] = 1.0

    @classmethod
    def of(cls, path: Path, weight: Weight = 1.0) -> NetworkFile:
        """Return the checkpoint with its present content.

        Raises:
            FileNotFoundError: there is no such file.
            ArgumentError: the weight is not above 0, or is of another type.
        """
        if not path.is_file():
            raise FileNotFoundError(f"there is no checkpoint {path}")
        return cls.create(path=path.resolve(), sha256=_digest(path), weight=weight)

    def check(self, kept: Path) -> Path:
        """Return the file that has the content: its copy, if there is one, or the checkpoint itself.

        Args:
            kept: path of the copy.

        Raises:
            FileNotFoundError: the checkpoint is gone.
            ConfigError: the checkpoint has been replaced.
        """
        if kept.is_file() and _digest(kept) == self.sha256:
            return kept
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} is gone; the prediction that uses it cannot be resumed")
        if _digest(self.path) != self.sha256:
            raise ConfigError(f"{self.path} is not the file that this prediction began with; put that one back")
        return self.path


class PredictionJob(Options):
    """A prediction. Paths are absolute. Processes and devices are not part of it.

    Attributes:
        version: version of the file's format.
        config: the run. Its options of prediction name the outputs, and the path of their mask is absolute.
        volume: folder or URL of the raw data.
        raw: fingerprint of the raw data.
        networks: checkpoints, whose predictions are averaged.
        output: zarr group to make.
        region: region to predict; all bounds are given.
        thickness: thickness of the slabs in which a block is computed, world units; None for the whole block. The run
            that begins the prediction chooses it.
    """

    version: Literal[1] = _VERSION
    config: Config
    volume: str
    raw: VolumeFingerprint | None = None
    networks: tuple[NetworkFile, ...] = Field(min_length=1)
    output: Path
    region: Region
    thickness: int | None = None

    @property
    def options(self) -> PredictionOptions:
        """The options of prediction."""
        return self.config.prediction

    @property
    def folder(self) -> WorkFolder:
        """The folder of the unfinished prediction."""
        return WorkFolder(self.output)

    def kept(self, index: int) -> Path:
        """Return the path of the copy of a checkpoint. Training may replace the checkpoint itself."""
        return self.folder.path / "networks" / f"{index}.safetensors"

    def keep_networks(self) -> None:
        """Copy the checkpoints beside the job, each whole or not at all."""
        for index, network in enumerate(self.networks):
            if network.check(self.kept(index)) == network.path:
                self.kept(index).parent.mkdir(exist_ok=True)
                with atomic_write(self.kept(index)) as beside:
                    shutil.copyfile(network.path, beside)

    def resume(self) -> PredictionJob:
        """Return this job with the checkpoints as they were when it began, if it began with files of these paths."""
        file = self.folder.job
        if not file.exists():
            return self
        begun = PredictionJob.read(file)
        files = [[(network.path, network.weight) for network in job.networks] for job in (begun, self)]
        if files[0] != files[1] or not all(begun.kept(index).is_file() for index in range(len(begun.networks))):
            return self
        for before, now in zip(begun.networks, self.networks, strict=True):
            if before.sha256 != now.sha256:
                logger.warning("%s has changed; the prediction keeps using its content from the beginning", now.path)
        return self.model_copy(update={"networks": begun.networks})

    @classmethod
    def read(cls, path: Path) -> PredictionJob:
        """Return the job in a file.

        Raises:
            FileNotFoundError: there is no such file.
            ConfigError: the file has another format version, or is not a job.
        """
        text = path.read_bytes()
        try:
            version = json.loads(text)["version"]
        except (ValueError, TypeError, KeyError):
            raise ConfigError(f"{path} is not a job of a prediction: it has no version") from None
        if version != _VERSION:
            raise ConfigError(
                f"{path} has format version {version!r}, and only version {_VERSION} can be read; remove the folder "
                f"{path.parent} to begin again, or finish it with the program that began it"
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problems = describe_problems(error, cls, json.loads(text), "the job")
            raise ConfigError(f"{path} is not a job of a prediction: {'; '.join(problems)}") from error

    def write(self) -> None:
        """Write the job to its folder, whole or not at all."""
        with atomic_write(self.folder.job) as beside:
            beside.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    def differences(self, other: PredictionJob) -> list[str]:
        """Return the fields that change voxels and differ, each as ``prediction.stored: "uint8" and "float32"``."""
        mine, others = (dict(_flat("", job.model_dump(mode="json"))) for job in (self, other))
        for job, values in ((self, mine), (other, others)):
            values["intensities"] = [one.intensities for one in job.config.learned_from]
        unequal = [name for name in mine | others if mine.get(name) != others.get(name)]
        # a block that could not be read says nothing
        volumes = [] if self.raw is None or other.raw is None else self.raw.differences(other.raw)
        found = [f"the volume: {difference}" for difference in volumes]
        records = zip(self.config.learned_from, other.config.learned_from, strict=False)
        pairs = (pair for one, another in records for pair in zip(one.inputs, another.inputs, strict=False))
        found += [difference for mine, others in pairs for difference in mine.differences(others)]
        return found + [
            f"{name.removeprefix('config.')}: {json.dumps(mine.get(name))} and {json.dumps(others.get(name))}"
            for name in unequal
        ]


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """Return the values that change voxels, by their dotted names."""
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
