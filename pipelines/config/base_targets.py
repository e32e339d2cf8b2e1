"""The base of the targets of an output: their loss, and its weight."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial

import numpy as np
from pydantic import Field, NonNegativeFloat, field_validator
from torch import nn

from scalenet_gp.errors import ConfigError
from scalenet_gp.losses import LossOptions
from scalenet_gp.options import Options
from scalenet_gp.pipelines.config.data import DataConfig

__all__ = ["BaseTargetsOptions", "WeightAt"]


class WeightAt(Options):
    """The weight of a loss at one iteration; between two, it changes evenly.

    Attributes:
        iteration: the iteration from which the weight counts.
        weight: the weight.

    Example:
        >>> WeightAt(iteration=1000, weight=0.5).weight
        0.5
    """

    iteration: int = Field(ge=0)
    weight: NonNegativeFloat


class BaseTargetsOptions(Options):
    """Abstract: the targets of an output, and their loss.

    Attributes:
        loss: the loss of the output.
        weight: factor of the loss in the sum over outputs: a number, or a list of weights at iterations.
    """

    loss: LossOptions
    weight: NonNegativeFloat | tuple[WeightAt, ...] = 1.0

    @field_validator("weight")
    @classmethod
    def _in_order(cls, weight: float | tuple[WeightAt, ...]) -> float | tuple[WeightAt, ...]:
        if isinstance(weight, tuple):
            times = [entry.iteration for entry in weight]
            if not times or times != sorted(set(times)):
                raise ConfigError(f"the weights are given for the iterations {times}; write one or more, in order")
        return weight

    @property
    def weight_function(self) -> float | Callable[[int], float]:
        """The weight, or the function that returns it for an iteration."""
        if not isinstance(self.weight, tuple):
            return self.weight
        return partial(
            np.interp, xp=[entry.iteration for entry in self.weight], fp=[entry.weight for entry in self.weight]
        )

    @abstractmethod
    def channels(self, data: DataConfig) -> tuple[str, ...]:
        """Return the names of the output's channels.

        Raises:
            ConfigError: a class is not one of ``data.classes``.
        """

    @property
    @abstractmethod
    def final_activation(self) -> str:
        """The final activation that the output needs, as ``torch.nn`` has it."""

    @property
    def directed(self) -> bool:
        """True if channels have directions, so that a mirrored or turned prediction is not that of turned data."""
        return False

    @property
    def makes_probabilities(self) -> bool:
        """True if the output lies within 0 and 1."""
        return self.final_activation in ("Sigmoid", "Softmax")

    def build_loss(self, voxel_size: Sequence[float]) -> nn.Module:
        """Return the loss of an output with this voxel size (nm per spatial axis)."""
        return self.loss.build_loss(voxel_size)

    def check_voxel_size(self, voxel_size: Sequence[Fraction]) -> None:
        """Check that the targets can be made at a voxel size (nm per spatial axis).

        Raises:
            ConfigError: lengths have other axes, or are not whole voxels.
        """

    def channel_weights(self, channels: Sequence[str]) -> tuple[float, ...] | None:
        """Return the weights of the channels in the loss; None if all are alike."""
        return None

    def scored(self, channels: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the channels that :meth:`as_classes` returns."""
        return tuple(channels)

    def as_classes(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return prediction, target and mask of what is scored, (class, z, y, x), decided by a threshold from 0 to 1.

        Args:
            prediction: (channel, z, y, x), as the network makes it.
            target: (channel, z, y, x).
            mask: (channel, z, y, x).
        """
        return prediction, target, mask
