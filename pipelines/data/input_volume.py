"""A volume that a network reads beside the raw data, such as the prediction of an earlier network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any, Self

import numpy as np
import torch
from pydantic import BaseModel, ValidationError

from scalenet_gp.errors import ConfigError, VolumeFormatError
from scalenet_gp.inference import IntensityWindow
from scalenet_gp.pipelines.config import Config, LearnedInput, match_output
from scalenet_gp.volumes import (
    ChunkCache,
    MultiscaleImage,
    StoredValues,
    StrPath,
    VolumeFingerprint,
    channel_names,
    find_node,
    parent,
)

__all__ = ["InputVolume", "check_predicted_from", "stored_type"]


class _Network(BaseModel):
    sha256: str


class _Job(BaseModel):
    """The part of a prediction's job that says what was predicted, and with which networks."""

    config: Config
    raw: VolumeFingerprint | None = None
    networks: tuple[_Network, ...]


@dataclass(frozen=True)
class InputVolume:
    """A volume that a network reads beside the raw data.

    Attributes:
        name: the name in ``inputs`` of the network and of the source.
        field: the field of the run file that says its path.
        image: the volume.
        channels: the names of its channels; their numbers, if it has no names.
        values: the meaning of the stored values.
    """

    name: str
    field: str
    image: MultiscaleImage
    channels: tuple[str, ...]
    values: StoredValues

    @classmethod
    def open(cls, name: str, field: str, path: str, dims: int, cache: ChunkCache | None = None) -> Self:
        """Open the volume; only metadata are read.

        Args:
            name: the name of the input.
            field: the field of the run file.
            path: path of the multiscale group.
            dims: number of spatial axes of the network.
            cache: cache of decoded chunks.

        Raises:
            FileNotFoundError: it does not exist.
            VolumeFormatError: it cannot be read.
            ConfigError: it holds labels, or has other axes.
        """
        image = MultiscaleImage.open(path, cache=cache)
        node = find_node(path)
        values = StoredValues.of(path, {} if node is None else node.attributes)
        if values.kind == "labels":
            raise ConfigError(f"{path} holds labels, which a network cannot read: name a prediction, or raw data")
        if image.dims != dims:
            raise ConfigError(f"{path} has {image.dims} spatial axes, the network has {dims}")
        channels = (() if node is None else channel_names(node)) or tuple(map(str, range(image.channels)))
        return cls(name, field, image, channels, values)

    @property
    def window(self) -> IntensityWindow:
        """The stored values that the network sees as -1 and 1.

        They are 0 and 1 of fractions, however they are stored, and -1 and 1 of other quantities, such as distances.
        """
        stored = stored_type(self.image)
        if self.values.kind != "quantities":
            return IntensityWindow.of_range(stored)
        one = 1 / self.values.scale
        return IntensityWindow(stored, -one, one)

    @property
    def directed(self) -> bool:
        """True if its channels have directions, as affinities and shape descriptors do, as far as it is known."""
        job = self._job
        return job is not None and match_output(job.config.training.targets, self._output(job)).directed

    def learned(self, raw: VolumeFingerprint) -> LearnedInput:
        """Return the record of the volume, of which a few blocks are read.

        Args:
            raw: fingerprint of the raw data beside it.

        Raises:
            ConfigError: it was predicted from other raw data.
        """
        job, networks = self._job, tuple[str, ...]()
        if job is not None:
            networks = tuple(network.sha256 for network in job.networks)
            if job.raw is not None:
                check_predicted_from(f"{self.field}: {self.image.path}", job.raw, raw, "the raw data beside it")
        return LearnedInput(
            name=self.name,
            volume=VolumeFingerprint.of(self.image),
            channels=self.channels,
            output=None if job is None else self._folder,
            networks=networks,
        )

    @property
    def _folder(self) -> str:
        return PurePath(self.image.path).name

    def _output(self, job: _Job) -> str:
        """Return the output of the network that predicted it: ``1_output`` of the folder ``1_output_variance``."""
        outputs = [name for name in job.config.prediction.outputs if f"{self._folder}_".startswith(f"{name}_")]
        return max(outputs, key=len, default=self._folder)

    @cached_property
    def _job(self) -> _Job | None:
        """The job of the prediction that it is an output of; None if it is not one."""
        above = parent(self.image.path)
        node = None if above is None else find_node(above[0])
        stated: Any = None if node is None else node.attributes.get("job")
        if above is None or stated is None:
            return None
        try:
            return _Job.model_validate(stated)
        except ValidationError as error:
            raise VolumeFormatError(
                f"{above[0]}: its attributes do not say by which job it was predicted: {error.errors()[0]['msg']}"
            ) from error


def stored_type(image: MultiscaleImage) -> torch.dtype:
    """Return the type of a volume's stored values, as torch has it."""
    return torch.from_numpy(np.empty(0, image.dtype.newbyteorder("="))).dtype


def check_predicted_from(prediction: StrPath, there: VolumeFingerprint, here: VolumeFingerprint, what: str) -> None:
    """Check that a prediction was made of this raw volume, wherever it lies.

    Args:
        prediction: its path, for the message.
        there: fingerprint of the raw data that it was made of.
        here: fingerprint of the raw data that it goes with.
        what: the name of these, for the message.

    Raises:
        ConfigError: it was made of others.
    """
    if differences := there.differences(here):
        raise ConfigError(
            f"{prediction} was predicted from {there}, and {what} are {here}: {'; '.join(differences)}. Take the "
            "volume that was predicted, wherever it has been moved to, or a prediction of this one"
        )
