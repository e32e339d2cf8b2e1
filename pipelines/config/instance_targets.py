"""The targets that are made of a label volume of instances: affinities and local shape descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import format_size
from scalenet_gp.losses import LossOptions
from scalenet_gp.nodes.targets import descriptor_names
from scalenet_gp.options import Shape, Size, Whole
from scalenet_gp.pipelines.config.base_targets import BaseTargetsOptions
from scalenet_gp.pipelines.config.data import DataConfig

__all__ = ["AffinityTargetsOptions", "InstanceTargetsOptions", "LsdTargetsOptions"]


class InstanceTargetsOptions(BaseTargetsOptions):
    """Abstract: targets that are made of a label volume of instances.

    Attributes:
        labels: the label volume of instances, within the source's ``labels``; 0 is the background. It does not matter
            for sources with the encoding ``instances``.
        unknown: the label of voxels that nobody has annotated, if there is one.
        loss: the loss of the output.
        weight: factor of the loss in the sum over outputs: a number, or a list of weights at iterations.
        gap_weights: more weight in the loss for voxels in narrow gaps between instances. None unless given.
    """

    labels: str
    unknown: int | None = None

    @property
    def final_activation(self) -> str:
        return "Sigmoid"

    @property
    def directed(self) -> bool:
        return True


class AffinityTargetsOptions(InstanceTargetsOptions):
    """Learn affinities, an output channel for each offset: see :class:`scalenet_gp.nodes.Affinities`.

    Attributes:
        kind: ``affinities``.
        labels: the label volume of instances, within the source's ``labels``; 0 is the background. It does not matter
            for sources with the encoding ``instances``.
        offsets: from a voxel to its neighbours, in voxels of the output.
        offsets_nm: the same in nm, instead of ``offsets``: whole voxels of the output.
        unknown: the label of voxels that nobody has annotated, if there is one.
        loss: the loss of the output.
        weight: factor of the loss in the sum over outputs: a number, or a list of weights at iterations.
        gap_weights: more weight in the loss for voxels in narrow gaps between instances. None unless given.

    Example:
        >>> options = AffinityTargetsOptions.create(labels="cells", offsets=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> options.final_activation
        'Sigmoid'
    """

    kind: Literal["affinities"] = "affinities"
    offsets: Annotated[tuple[tuple[int, ...], ...], Field(min_length=1)] | None = None
    offsets_nm: Annotated[tuple[Size, ...], Field(min_length=1)] | None = None
    loss: LossOptions = Field({"kind": "cross_entropy_dice"}, validate_default=True)

    @field_validator("offsets", "offsets_nm")
    @classmethod
    def _of_the_same_axes(cls, offsets: tuple[tuple[Any, ...], ...] | None) -> tuple[tuple[Any, ...], ...] | None:
        if offsets is not None and (len(axes := {len(offset) for offset in offsets}) > 1 or axes == {0}):
            raise ConfigError("the offsets have one number for each axis, all of them the same axes")
        if offsets is not None and not all(map(any, offsets)):
            raise ConfigError("an offset of 0 along every axis pairs each voxel with itself: leave it out")
        return offsets

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.offsets is None) == (self.offsets_nm is None):
            raise ConfigError("affinities have either offsets, in voxels, or offsets_nm: write one of both")
        return self

    def channels(self, data: DataConfig) -> tuple[str, ...]:
        if self.offsets_nm is not None:
            return tuple(f"affinity {' '.join(format(float(n), '.12g') for n in o)} nm" for o in self.offsets_nm)
        return tuple(f"affinity {' '.join(map(str, offset))}" for offset in self.offsets or ())

    def in_voxels(self, voxel_size: Sequence[Fraction]) -> tuple[tuple[int, ...], ...]:
        """Return the offsets in voxels of a size (nm per spatial axis).

        Raises:
            ConfigError: they have other axes, or are not whole voxels.
        """
        self.check_voxel_size(voxel_size)
        if self.offsets is not None:
            return self.offsets
        return tuple(
            tuple(int(length / size) for length, size in zip(offset, voxel_size, strict=True))
            for offset in self.offsets_nm or ()
        )

    def check_voxel_size(self, voxel_size: Sequence[Fraction]) -> None:
        for offset in self.offsets or ():
            _check_axes("offsets", offset, voxel_size)
        for lengths in self.offsets_nm or ():
            _check_axes("offsets_nm", lengths, voxel_size)
            # at least a voxel along an axis where there is an offset
            nearest = tuple(
                (round(length / size) or (length > 0) - (length < 0)) * size
                for length, size in zip(lengths, voxel_size, strict=True)
            )
            if nearest != lengths:
                raise ConfigError(
                    f"offsets_nm has {[*map(float, lengths)]}, which is not whole voxels of {format_size(voxel_size)} "
                    f"nm; the nearest is {[*map(float, nearest)]}"
                )


class LsdTargetsOptions(InstanceTargetsOptions):
    """Learn local shape descriptors of instances: see :class:`scalenet_gp.nodes.LocalShapeDescriptors`.

    An output has 10 channels, 6 in two dimensions. Scores tell how well descriptors above one half are found: on which
    side of a voxel the mean of its instance lies, for example, or the sign of a correlation.

    Attributes:
        kind: ``lsd``.
        labels: the label volume of instances, within the source's ``labels``; 0 is the background. It does not matter
            for sources with the encoding ``instances``.
        sigma: nm per axis; the standard deviation of the Gaussian about each voxel.
        downsample: look at every so manyth voxel along each axis only, which takes less time.
        unknown: the label of voxels that nobody has annotated, if there is one.
        loss: the loss of the output.
        weight: factor of the loss in the sum over outputs: a number, or a list of weights at iterations.
        gap_weights: more weight in the loss for voxels in narrow gaps between instances. None unless given.

    Example:
        >>> data = DataConfig.create(sources=[{"raw": "em", "labels": "labels"}], classes=["cell"])
        >>> len(LsdTargetsOptions.create(labels="cells", sigma=[80, 80, 80]).channels(data))
        10
    """

    kind: Literal["lsd"] = "lsd"
    sigma: Shape
    downsample: Whole = 1
    loss: LossOptions = Field({"kind": "distance_regression", "beta": None}, validate_default=True)

    def channels(self, data: DataConfig) -> tuple[str, ...]:
        return descriptor_names(len(self.sigma))

    def check_voxel_size(self, voxel_size: Sequence[Fraction]) -> None:
        _check_axes("sigma", self.sigma, voxel_size)

    def as_classes(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return prediction, target > 0.5, mask


def _check_axes(field: str, lengths: Sequence[int | Fraction], voxel_size: Sequence[Fraction]) -> None:
    if len(lengths) != len(voxel_size):
        raise ConfigError(f"{field} has {len(lengths)} axes, and the network {len(voxel_size)}")
