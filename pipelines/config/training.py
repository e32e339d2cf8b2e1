"""The parts of a run file about training: samples, network, losses, optimization, and validation meanwhile."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat

from scalenet_gp.losses import LossOptions
from scalenet_gp.options import Options, Size
from scalenet_gp.pipelines.config.region import Region
from scalenet_gp.pipelines.config.sampling import SamplerOptions, UniformSamplerOptions
from scalenet_gp.training import (
    CheckpointOptions,
    ComputeConfig,
    LogOptions,
    Optimization,
    ValidationOptions,
)

__all__ = ["ClassTargetsOptions", "EvaluationConfig", "LossWeights", "TrainingConfig", "ValidationConfig"]


class LossWeights(Options):
    """Weights of the outputs' losses at one iteration; between two, they change evenly.

    Attributes:
        iteration: the iteration from which the weights count.
        weights: weights of the outputs, from coarse to fine.

    Example:
        >>> LossWeights(iteration=1000, weights=(0, 1)).weights
        (0.0, 1.0)
    """

    iteration: int = Field(ge=0)
    weights: tuple[NonNegativeFloat, ...] = Field(min_length=1)


class ClassTargetsOptions(Options):
    """Learn the classes of ``data.classes``, one output channel for each: see :class:`scalenet_gp.nodes.ClassTargets`.

    Attributes:
        kind: ``classes``.

    Example:
        >>> ClassTargetsOptions().kind
        'classes'
    """

    kind: Literal["classes"] = "classes"


class TrainingConfig(Options):
    """Samples to learn from, and how they are learned from.

    Attributes:
        region: the part of the annotation to learn from.
        output_shape: nm per axis that every output of a sample covers.
        iterations: number of batches to learn from.
        batch_size: samples in each batch; with several processes, in each of each.
        seed: seed of the weights and of every sample. The same seed gives the same run to the bit, whatever ``workers``
            is.
        workers: processes that prepare batches ahead; with 0 they are prepared in between.
        overhang: nm by which a sample may reach out of the region, where it is masked.
        sampler: where in the region samples are taken.
        targets: what the outputs learn.
        optimization: how weights change.
        compute: how the network is computed.
        loss: loss of every output.
        loss_weights: weights of the outputs' losses, from coarse to fine, one each unless given; or how they change.
        class_weights: weights of the classes in the loss, one each unless given.
        start_from: checkpoint or saved network whose weights to begin with.
        checkpoints: when checkpoints are written, and which are kept.
        log: when TensorBoard is written to.
    """

    region: Region
    output_shape: Size
    iterations: int = Field(ge=1)
    batch_size: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)
    workers: int = Field(0, ge=0)
    overhang: Size | None = None
    sampler: SamplerOptions = UniformSamplerOptions()
    targets: ClassTargetsOptions = ClassTargetsOptions()
    optimization: Optimization = Field(default_factory=Optimization)
    compute: ComputeConfig = ComputeConfig()
    loss: LossOptions = Field({"kind": "cross_entropy_dice"}, validate_default=True)
    loss_weights: tuple[NonNegativeFloat, ...] | tuple[LossWeights, ...] | None = None
    class_weights: tuple[NonNegativeFloat, ...] | None = None
    start_from: str | None = None
    checkpoints: CheckpointOptions = CheckpointOptions()
    log: LogOptions = LogOptions()


class ValidationConfig(ValidationOptions):
    """Validation of a network while it is trained.

    Attributes:
        region: the part of the annotation to validate with; it shares nothing with that to learn from.
    """

    region: Region


class EvaluationConfig(Options):
    """Comparison of a trained network's prediction with the annotation.

    Attributes:
        region: the part of the annotation that training never sees.
        threshold: probability from which a voxel counts as the class, in validation too.

    Example:
        >>> EvaluationConfig.create(region={"begin": [0, 0, 0], "end": [800, None, None]}).threshold
        0.5
    """

    region: Region
    threshold: float = Field(0.5, gt=0, lt=1)
