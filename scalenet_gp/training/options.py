"""Options of checkpoints, the log and validation."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from scalenet_gp.options import Options

__all__ = ["CheckpointOptions", "LogOptions", "Metric", "NormStatisticsOptions", "ValidationOptions"]

Metric = Literal["dice", "iou", "precision", "recall", "loss"]
"""The number that networks are compared by; see :meth:`.ValidationResult.metric`."""


class CheckpointOptions(Options):
    """Options of when checkpoints are written, and which are kept.

    Attributes:
        every: iterations from one checkpoint to the next; one more is written at the end.
        keep_newest: number of newest checkpoints that are kept.
        keep_every: checkpoints whose iteration is a multiple of it are kept too. By default only the newest are.

    Example:
        >>> CheckpointOptions(every=1000, keep_every=10_000).keep_newest
        3
    """

    every: PositiveInt = 500
    keep_newest: PositiveInt = 3
    keep_every: PositiveInt | None = None


class LogOptions(Options):
    """Options of how often TensorBoard is written to.

    Attributes:
        scalars_every: iterations from one set of scalars to the next.
        images_every: iterations from one set of images, and of losses by class, to the next. The first and the last
            iteration have them, too. With None there are no images.

    Example:
        >>> LogOptions(scalars_every=100).images_every
        250
    """

    scalars_every: PositiveInt = 10
    images_every: PositiveInt | None = 250


class NormStatisticsOptions(Options):
    """Options of the statistics that batch and calibrated group normalization predict with.

    Attributes:
        samples: number of training samples over which they are estimated before each validation and checkpoint; always
            the same ones. With 0 the running averages of training are kept. Networks with neither draw none.
        seed: seed of the samples.

    Example:
        >>> NormStatisticsOptions().samples
        32
    """

    samples: NonNegativeInt = 32
    seed: NonNegativeInt = 0


class ValidationOptions(Options):
    """Options of validation during training.

    Attributes:
        every: iterations from one validation to the next.
        samples: number of samples, always taken at the same locations.
        metric: the number that networks are compared by: the loss, or the mean of a score over the classes of the
            finest output.
        patience: validations in a row without a better one after which training stops. By default it never does.
        seed: seed of the locations.

    Example:
        >>> ValidationOptions(every=500, patience=10).metric
        'dice'
    """

    every: PositiveInt
    samples: PositiveInt = 64
    metric: Metric = "dice"
    patience: PositiveInt | None = None
    seed: NonNegativeInt = 0
