"""The part ``training.targets`` of a run file: the targets of each output, and their loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import partial
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeFloat, field_validator, model_validator
from torch import nn

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import format_size
from scalenet_gp.losses import LossOptions
from scalenet_gp.nodes.targets import descriptor_names
from scalenet_gp.options import Length, Options, Shape, Size, Whole, suggest
from scalenet_gp.pipelines.config.data import DataConfig

__all__ = [
    "BACKGROUND",
    "AffinityTargetsOptions",
    "BoundaryDistanceTargetsOptions",
    "ClassTargetsOptions",
    "InstanceTargetsOptions",
    "LsdTargetsOptions",
    "TargetOptions",
    "WeightAt",
    "match_output",
    "match_outputs",
]

BACKGROUND = "background"
"""The name of the first channel of exclusive classes."""


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


class ClassTargetsOptions(BaseTargetsOptions):
    """Learn classes, an output channel for each: see :class:`scalenet_gp.nodes.ClassTargets`.

    Attributes:
        kind: ``classes``.
        classes: names of ``data.classes``; all of them unless given.
        exclusive: a voxel has one class at most. The output ends in a Softmax then, with a first channel for the
            background. Otherwise every class is decided by itself, by a Sigmoid.
        loss: the loss of the output.
        weight: factor of the loss in the sum over outputs: a number, or a list of weights at iterations.
        class_weights: weights of classes in the loss, by name; 1 for the others.

    Example:
        >>> data = DataConfig.create(sources=[{"raw": "em", "labels": "labels"}], classes=["neuron", "glia"])
        >>> ClassTargetsOptions(exclusive=True).channels(data)
        ('background', 'neuron', 'glia')
    """

    kind: Literal["classes"] = "classes"
    classes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    exclusive: bool = False
    loss: LossOptions = Field({"kind": "cross_entropy_dice"}, validate_default=True)
    class_weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)

    def channels(self, data: DataConfig) -> tuple[str, ...]:
        names = _known_classes(self.classes, data)
        if self.exclusive and BACKGROUND in names:
            raise ConfigError(
                f"exclusive classes have a channel {BACKGROUND!r} of their own: leave {BACKGROUND!r} out of the classes"
            )
        channels = (BACKGROUND, *names) if self.exclusive else names
        for name in self.class_weights:
            if name not in channels:
                raise ConfigError(f"class_weights names {name!r}, which is not learned; {suggest(name, channels)}")
        return channels

    @property
    def final_activation(self) -> str:
        return "Softmax" if self.exclusive else "Sigmoid"

    def build_loss(self, voxel_size: Sequence[float]) -> nn.Module:
        return self.loss.build_loss(voxel_size, self.exclusive)

    def channel_weights(self, channels: Sequence[str]) -> tuple[float, ...] | None:
        return tuple(self.class_weights.get(name, 1.0) for name in channels) if self.class_weights else None

    def scored(self, channels: Sequence[str]) -> tuple[str, ...]:
        return tuple(channels[1:] if self.exclusive else channels)

    def as_classes(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not self.exclusive:
            return prediction, target, mask
        best = prediction.argmax(axis=0)  # the first where several are, as the background is
        chosen = np.stack([best == channel for channel in range(1, len(prediction))])
        return chosen.astype(np.float32), target[1:], mask[1:]


class InstanceTargetsOptions(BaseTargetsOptions):
    """Abstract: targets that are made of a label volume of instances.

    Attributes:
        labels: the label volume of instances, within the source's ``labels``; 0 is the background. It does not matter
            for sources with the encoding ``instances``.
        unknown: the label of voxels that nobody has annotated, if there is one.
        loss: the loss of the output.
        weight: factor of the loss in the sum over outputs: a number, or a list of weights at iterations.
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


class BoundaryDistanceTargetsOptions(BaseTargetsOptions):
    """Learn signed distances to the boundaries of classes: see :class:`scalenet_gp.nodes.BoundaryDistance`.

    Distances are positive inside, in units of ``maximum``: from -1 to 1.

    Attributes:
        kind: ``boundary_distance``.
        classes: names of ``data.classes``; all of them unless given.
        maximum: nm; a larger distance counts as this one.
        loss: the loss of the output.
        weight: factor of the loss in the sum over outputs: a number, or a list of weights at iterations.

    Example:
        >>> BoundaryDistanceTargetsOptions.create(maximum=100).final_activation
        'Tanh'
    """

    kind: Literal["boundary_distance"] = "boundary_distance"
    classes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    maximum: Length
    loss: LossOptions = Field({"kind": "distance_regression"}, validate_default=True)

    @field_validator("maximum")
    @classmethod
    def _above_zero(cls, maximum: Fraction) -> Fraction:
        if maximum <= 0:
            raise ConfigError("it has to be above 0")
        return maximum

    def channels(self, data: DataConfig) -> tuple[str, ...]:
        return _known_classes(self.classes, data)

    @property
    def final_activation(self) -> str:
        return "Tanh"

    def as_classes(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return (prediction + 1) / 2, target, mask


TargetOptions = Annotated[
    ClassTargetsOptions | AffinityTargetsOptions | LsdTargetsOptions | BoundaryDistanceTargetsOptions,
    Field(discriminator="kind"),
]
"""Options of what an output learns; ``kind`` tells which."""


def match_output(targets: Mapping[str, TargetOptions], name: str) -> TargetOptions:
    """Return what an output learns: the first of ``targets`` whose pattern matches its name.

    Raises:
        ConfigError: no pattern does.
    """
    for pattern, options in targets.items():
        if fnmatchcase(name, pattern):
            return options
    raise ConfigError(
        f"training.targets has no entry for the output {name!r}; it has {', '.join(targets)}, and '*' stands for all "
        "other outputs"
    )


def match_outputs(targets: Mapping[str, TargetOptions], outputs: Sequence[str]) -> dict[str, TargetOptions]:
    """Return the targets of each output.

    Raises:
        ConfigError: an output has no targets, or targets are of no output.
    """
    matched = {name: match_output(targets, name) for name in outputs}
    for pattern, options in targets.items():
        if not any(options is found for found in matched.values()):
            raise ConfigError(f"training.targets.{pattern} is of no output; {suggest(pattern, outputs)}")
    return matched


def _check_axes(field: str, lengths: Sequence[int | Fraction], voxel_size: Sequence[Fraction]) -> None:
    if len(lengths) != len(voxel_size):
        raise ConfigError(f"{field} has {len(lengths)} axes, and the network {len(voxel_size)}")


def _known_classes(classes: Sequence[str] | None, data: DataConfig) -> tuple[str, ...]:
    if classes is None:
        return data.class_names
    if len(set(classes)) < len(classes):
        raise ConfigError(f"every class is learned once; {', '.join(classes)} repeats one")
    for name in classes:
        if name not in data.classes:
            raise ConfigError(f"{name!r} is not one of data.classes; {suggest(name, data.class_names)}")
    return tuple(classes)
