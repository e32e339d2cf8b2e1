"""The part ``training.targets`` of a run file: the targets of each output, and their loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, field_validator
from torch import nn

from scalenet_gp.errors import ConfigError
from scalenet_gp.losses import LossOptions
from scalenet_gp.options import Length, suggest
from scalenet_gp.pipelines.config.base_targets import BaseTargetsOptions
from scalenet_gp.pipelines.config.data import DataConfig
from scalenet_gp.pipelines.config.distribution_targets import DistributionTargetsOptions, joint_losses
from scalenet_gp.pipelines.config.instance_targets import AffinityTargetsOptions, LsdTargetsOptions

__all__ = [
    "BACKGROUND",
    "BoundaryDistanceTargetsOptions",
    "ClassTargetsOptions",
    "OutputTargets",
    "TargetOptions",
    "match_output",
    "match_outputs",
]

BACKGROUND = "background"
"""The name of the first channel of exclusive classes."""


class ClassTargetsOptions(BaseTargetsOptions):
    """Learn classes, an output channel for each: see :class:`scalenet_gp.nodes.ClassTargets`.

    Attributes:
        kind: ``classes``.
        classes: names of ``data.classes``; all of them unless given.
        exclusive: a voxel has one class at most. The output ends in a Softmax then, with a first channel for the
            background. Otherwise every class is decided by itself, by a Sigmoid.
        loss: the loss of the output.
        weight: factor of the loss in the sum over outputs: a number, or a list of weights at iterations.
        gap_weights: more weight in the loss for voxels in narrow gaps between instances. None unless given.
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


class BoundaryDistanceTargetsOptions(BaseTargetsOptions):
    """Learn signed distances to the boundaries of classes: see :class:`scalenet_gp.nodes.BoundaryDistance`.

    Distances are positive inside, in units of ``maximum``: from -1 to 1.

    Attributes:
        kind: ``boundary_distance``.
        classes: names of ``data.classes``; all of them unless given.
        maximum: nm; a larger distance counts as this one.
        loss: the loss of the output.
        weight: factor of the loss in the sum over outputs: a number, or a list of weights at iterations.
        gap_weights: more weight in the loss for voxels in narrow gaps between instances. None unless given.

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


TargetOptions = ClassTargetsOptions | AffinityTargetsOptions | LsdTargetsOptions | BoundaryDistanceTargetsOptions
"""Options of an output that learns from annotation."""

OutputTargets = Annotated[TargetOptions | DistributionTargetsOptions, Field(discriminator="kind")]
"""Options of what an output learns; ``kind`` tells which."""


def match_output(targets: Mapping[str, OutputTargets], name: str) -> TargetOptions:
    """Return what an output learns from annotation: the first of ``targets`` whose pattern matches its name.

    Raises:
        ConfigError: no pattern does, or the output is part of a distribution, which learns from no annotation.
    """
    if (mean := _distribution_of(targets, name)) is not None:
        raise ConfigError(
            f"training.targets.{mean} is a distribution, and the output {name!r} is part of it: it learns from no "
            "annotation"
        )
    for pattern, options in targets.items():
        if not isinstance(options, DistributionTargetsOptions) and fnmatchcase(name, pattern):
            return options
    raise ConfigError(
        f"training.targets has no entry for the output {name!r}; it has {', '.join(targets)}, and '*' stands for all "
        "other outputs"
    )


def _distribution_of(targets: Mapping[str, OutputTargets], name: str) -> str | None:
    """Return the name of the mean of the distribution that an output is part of, or None."""
    for mean, options in targets.items():
        if isinstance(options, DistributionTargetsOptions) and name in options.outputs(mean):
            return mean
    return None


def match_outputs(targets: Mapping[str, OutputTargets], outputs: Sequence[str]) -> dict[str, TargetOptions]:
    """Return the targets of each output that learns from annotation.

    Raises:
        ConfigError: an output has no targets, or targets are of no output.
    """
    joint_losses(targets, outputs)  # refuses distributions of outputs that are not there
    matched = {name: match_output(targets, name) for name in outputs if _distribution_of(targets, name) is None}
    for pattern, options in targets.items():
        if isinstance(options, DistributionTargetsOptions):
            continue
        if not any(options is found for found in matched.values()):
            raise ConfigError(f"training.targets.{pattern} is of no output; {suggest(pattern, outputs)}")
    return matched


def _known_classes(classes: Sequence[str] | None, data: DataConfig) -> tuple[str, ...]:
    if classes is None:
        return data.class_names
    if len(set(classes)) < len(classes):
        raise ConfigError(f"every class is learned once; {', '.join(classes)} repeats one")
    for name in classes:
        if name not in data.classes:
            raise ConfigError(f"{name!r} is not one of data.classes; {suggest(name, data.class_names)}")
    return tuple(classes)
