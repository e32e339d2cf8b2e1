"""The parts of a run file about training: samples, network, losses, optimization, and validation meanwhile."""

from __future__ import annotations

from pydantic import Field

from scalenet_gp.options import Options, Size
from scalenet_gp.pipelines.config.region import Region
from scalenet_gp.pipelines.config.sampling import SamplerOptions
from scalenet_gp.pipelines.config.targets import OutputTargets
from scalenet_gp.training import (
    AdversaryOptions,
    CheckpointOptions,
    ComputeConfig,
    LogOptions,
    NormStatisticsOptions,
    Optimization,
    ValidationOptions,
)

__all__ = ["TrainingConfig", "ValidationConfig"]


class TrainingConfig(Options):
    """Samples to learn from, and how they are learned from.

    Attributes:
        region: the part of the annotation to learn from, in sources that do not say their use; all of it unless given.
        output_shape: nm per axis that the outputs of a sample cover: one box for all outputs, or one for each by its
            name, about a common centre. Unless given, every scale has about as many voxels as the others, so that
            coarse outputs cover more.
        iterations: number of batches to learn from.
        batch_size: samples in each batch; with several processes, in each of each.
        seed: seed of the weights and of every sample. The same seed gives the same run to the bit, whatever ``workers``
            is.
        workers: processes that prepare batches ahead; with 0 they are prepared in between.
        overhang: nm by which a sample may reach out of the region, where it is masked.
        sampler: where in the region samples are taken. Unless given, half of the samples of a single volume hold a
            voxel of a class that is drawn evenly, and those of several volumes lie anywhere: see ``data.sampling``.
        targets: what each output learns, by its name. A name may be a pattern as file names have them; the first that
            matches an output counts. All outputs learn all classes unless given.
        adversary: a discriminator that learns to tell targets from predictions, and the loss that it makes; none unless
            given.
        optimization: how weights change.
        compute: how the network is computed.
        norm_statistics: how the statistics are estimated that normalization predicts with.
        start_from: checkpoint or saved network whose weights to begin with.
        checkpoints: when checkpoints are written, and which are kept.
        log: when TensorBoard is written to.
    """

    region: Region | None = None
    output_shape: Size | dict[str, Size] | None = None
    iterations: int = Field(ge=1)
    batch_size: int = Field(4, ge=1)
    seed: int = Field(0, ge=0)
    workers: int = Field(0, ge=0)
    overhang: Size | None = None
    sampler: SamplerOptions | None = None
    targets: dict[str, OutputTargets] = Field({"*": {"kind": "classes"}}, min_length=1, validate_default=True)
    adversary: AdversaryOptions | None = None
    optimization: Optimization = Field(default_factory=Optimization)
    compute: ComputeConfig = ComputeConfig()
    norm_statistics: NormStatisticsOptions = NormStatisticsOptions()
    start_from: str | None = None
    checkpoints: CheckpointOptions = CheckpointOptions()
    log: LogOptions = LogOptions()


class ValidationConfig(ValidationOptions):
    """Validation of a network while it is trained.

    Attributes:
        region: the part of the annotation to validate with, in sources that do not say their use; it shares nothing
            with that to learn from. Not needed where sources say ``use: validate``, or with ``data.split``.
    """

    region: Region | None = None
