"""What a config says of training: where samples come from, how they are learned from, and how that is judged."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from math import fsum
from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator, model_validator

from scalenet_gp import losses
from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Options, Probability, Size
from scalenet_gp.pipelines.config.region import Region
from scalenet_gp.training import Metric

__all__ = [
    "LossConfig",
    "LossWeights",
    "OptimizerConfig",
    "SamplingConfig",
    "StratumConfig",
    "TrainingConfig",
    "ValidationConfig",
]

_LOSSES = ("CrossEntropyDice", "BinaryCrossEntropy", "Dice", "Tversky", "Focal")
"""Those of probabilities of classes that do not exclude one another, at any voxel size."""

_RADAM = {"weight_decay": 1e-4, "decoupled_weight_decay": True}

_SLACK = 1e-9  # shares that are written as decimals sum to a little more than 1


class StratumConfig(Options):
    """Sampler of one kind: see :class:`scalenet_gp.nodes.StratifiedSampler`.

    Attributes:
        weight: how often samples are taken there.
        regions: where they are taken.
    """

    weight: float = Field(ge=0, allow_inf_nan=False)
    regions: tuple[Region, ...] = Field(min_length=1)


class SamplingConfig(Options):
    """Where samples are taken; everywhere in the annotation alike unless said otherwise.

    Attributes:
        classes: the share of samples to lay on a voxel of each class; 1 in sum at most.
        strata: the kinds of places that the rest is taken from: "dense", "sparse", "artefact", as one likes.
    """

    classes: dict[str, Probability] = Field(default_factory=dict)
    strata: dict[str, StratumConfig] = Field(default_factory=dict)

    @field_validator("classes")
    @classmethod
    def _share(cls, classes: dict[str, float]) -> dict[str, float]:
        if (total := fsum(classes.values())) > 1 + _SLACK:
            raise ConfigError(f"the shares sum to {total:g}; they may sum to 1 at most")
        return classes


class OptimizerConfig(Options):
    """Any optimizer of ``torch.optim``.

    Attributes:
        name: its class: ``RAdam``, ``AdamW``, ``SGD``, ...
        arguments: what it takes, but for the parameters and the learning rate; of RAdam, a decoupled weight decay of
            1e-4 unless given.
    """

    name: str = "RAdam"
    arguments: dict[str, Any] = Field(
        default_factory=lambda data: _RADAM if data.get("name") == "RAdam" else {}, validate_default=True
    )

    @model_validator(mode="after")
    def _there(self) -> OptimizerConfig:
        kind = getattr(torch.optim, self.name, None)
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
            raise ConfigError(f"torch.optim has no optimizer {self.name!r}")
        _check_arguments(f"torch.optim.{self.name}", kind, self.arguments, ("params", "lr"))
        return self

    def make(self, parameters: Iterable[torch.nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        """The optimizer of ``parameters``."""
        made: torch.optim.Optimizer = getattr(torch.optim, self.name)(parameters, lr=learning_rate, **self.arguments)
        return made


class LossConfig(Options):
    """A loss of :mod:`scalenet_gp.losses` for the probabilities of classes that networks of configs predict.

    Attributes:
        name: its class: ``CrossEntropyDice``, ``Tversky``, ``Focal``, ...
        arguments: what it takes.
    """

    name: str = "CrossEntropyDice"
    arguments: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _there(self) -> LossConfig:
        if self.name not in _LOSSES:
            raise ConfigError(f"there is no loss {self.name!r}; there are {', '.join(_LOSSES)}")
        self.make()
        return self

    def make(self) -> torch.nn.Module:
        """The loss."""
        kind = getattr(losses, self.name)
        _check_arguments(self.name, kind, self.arguments, ())
        made: torch.nn.Module = kind(**self.arguments)
        return made


class LossWeights(Options):
    """The outputs' weights at one iteration; between two, they change evenly.

    Attributes:
        iteration: when.
        weights: of the outputs, from coarse to fine.
    """

    iteration: int = Field(ge=0)
    weights: tuple[NonNegativeFloat, ...] = Field(min_length=1)


class TrainingConfig(Options):
    """How long, on what and how fast.

    Attributes:
        region: the part of the annotation to learn from.
        output_shape: nm per axis that every output of a sample covers.
        sampling: where in the region.
        iterations: batches to learn from.
        batch_size: samples in each; with several processes, in each of each.
        optimizer: changes the weights.
        learning_rate: of the optimizer, at its highest.
        schedule: of the learning rate: it falls to zero along a cosine, or stays, or is divided by ten wherever
            validation has not improved for a third of its patience.
        warm_up: steps over which the learning rate rises before that.
        accumulate: batches whose gradients make one step.
        clip_norm: the norm above which a gradient is scaled down to it; none unless given.
        ema_decay: of the average of the weights that is judged and predicted with; none unless given.
        frozen: patterns of parameters that stay as they are.
        start_from: a checkpoint or saved network whose weights to begin with.
        precision: what convolutions compute in.
        activation_checkpointing: patterns of nodes whose insides are computed again in the backward pass, to save
            memory.
        compile: have torch.compile make one program of the network.
        loss: of every output.
        loss_weights: of the outputs, from coarse to fine, one each unless given; or how they change.
        class_weights: of the classes in the loss, one each unless given.
        skips_in_a_row: steps in a row that may be skipped because their loss or gradient is not finite.
        seed: of the weights and of every sample; the same seed gives the same run to the bit, whatever ``workers`` is.
        workers: processes that prepare batches ahead; 0 prepares them in between.
        overhang: nm by which a sample may reach out of the region (what lies there is masked).
        checkpoint_every: iterations from one checkpoint to the next.
        keep_newest: how many checkpoints are kept.
        keep_every: those of multiples of this iteration are kept too.
        scalars_every: iterations from one set of TensorBoard scalars to the next.
        images_every: iterations from one set of TensorBoard images to the next.
    """

    region: Region
    output_shape: Size
    iterations: int = Field(ge=1)
    batch_size: int = Field(1, ge=1)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    warm_up: int = Field(0, ge=0)
    accumulate: int = Field(1, ge=1)
    clip_norm: PositiveFloat | None = None
    ema_decay: float | None = Field(None, ge=0, lt=1)
    frozen: tuple[str, ...] = ()
    start_from: str | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    activation_checkpointing: tuple[str, ...] = ()
    compile: bool = False
    loss: LossConfig = Field(default_factory=LossConfig)
    loss_weights: tuple[NonNegativeFloat, ...] | tuple[LossWeights, ...] | None = None
    class_weights: tuple[NonNegativeFloat, ...] | None = None
    skips_in_a_row: int = Field(10, ge=0)
    seed: int = Field(0, ge=0)
    workers: int = Field(0, ge=0)
    overhang: Size | None = None
    sampling: SamplingConfig = SamplingConfig()
    checkpoint_every: int = Field(500, ge=1)
    keep_newest: int = Field(3, ge=1)
    keep_every: int | None = Field(None, ge=1)
    scalars_every: int = Field(10, ge=1)
    images_every: int = Field(250, ge=1)


class ValidationConfig(Options):
    """How a network is judged while it is trained.

    Attributes:
        region: the part of the annotation to judge by; it shares nothing with that to learn from.
        every: iterations from one judgement to the next.
        samples: judged each time, always at the same places.
        metric: what networks are compared by, a mean over the classes of the finest output.
        patience: after how many judgements in a row without a better one training stops; never unless given.
        seed: of the places.
    """

    region: Region
    every: int = Field(ge=1)
    samples: int = Field(8, ge=1)
    metric: Metric = "dice"
    patience: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)


def _check_arguments(what: str, kind: type, arguments: Mapping[str, Any], own: tuple[str, ...]) -> None:
    """Refuse arguments that a class does not take, or that are given otherwise."""
    taken = [name for name in inspect.signature(kind).parameters if name not in own]
    unknown = [name for name in arguments if name not in taken]
    if unknown:
        raise ConfigError(f"{what} takes no argument {', '.join(unknown)} here; it takes {', '.join(taken)}")
