"""The base of the targets of an output: their loss, and its weight."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from pydantic import Field, field_validator
from torch import nn

from scalenet_gp.errors import ConfigError
from scalenet_gp.losses import LossOptions, WeightOptions, weight_function
from scalenet_gp.options import Length, Options
from scalenet_gp.pipelines.config.data import DataConfig

__all__ = ["BaseTargetsOptions", "GapWeightsOptions"]


class GapWeightsOptions(Options):
    """More weight in the loss for voxels in narrow gaps between instances: :class:`scalenet_gp.nodes.DistanceWeights`.

    Attributes:
        labels: the label volume of instances, within the source's ``labels``; 0 is the background. It does not matter
            for sources with the encoding ``instances``.
        sigma: nm; the distances within which gaps weigh more.
        w0: the largest weight that is added to 1.
        unknown: the label of voxels that nobody has annotated, if there is one. They have no weight.

    Example:
        >>> float(GapWeightsOptions.create(labels="cells", sigma=20).w0)
        10.0
    """

    labels: str
    sigma: Length
    w0: float = Field(10.0, ge=0, allow_inf_nan=False)
    unknown: int | None = None

    @field_validator("sigma")
    @classmethod
    def _above_zero(cls, sigma: Fraction) -> Fraction:
        if sigma <= 0:
            raise ConfigError("it has to be above 0")
        return sigma


class BaseTargetsOptions(Options):
    """Abstract: the targets of an output, and their loss.

    Attributes:
        loss: the loss of the output.
        weight: factor of the loss in the sum over outputs: a number, or a list of weights at iterations.
        gap_weights: more weight in the loss for voxels in narrow gaps between instances. None unless given.
    """

    loss: LossOptions
    weight: WeightOptions = 1.0
    gap_weights: GapWeightsOptions | None = None

    @property
    def weight_function(self) -> float | Callable[[int], float]:
        """The weight, or the function that returns it for an iteration."""
        return weight_function(self.weight)

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
