"""What a run is: typed, checked when it is read, and the same in YAML.

Lengths are nanometres per spatial axis (z, y, x), exact: 4.6 is 23/5. Positions count from the corner of the raw
volume, so that a volume's first section begins at 0 whatever its file calls that place.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import fsum, isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PlainSerializer,
    PositiveFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from scalenet_gp import losses
from scalenet_gp.files import whole_file
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks import build_scalenet
from scalenet_gp.pipelines.judgement import Metric
from scalenet_gp.world import exact

__all__ = [
    "AugmentationConfig",
    "Config",
    "DataConfig",
    "LossConfig",
    "LossWeights",
    "OptimizerConfig",
    "Region",
    "SamplingConfig",
    "SectionsConfig",
    "StratumConfig",
    "SubnetConfig",
    "TrainingConfig",
    "ValidationConfig",
]

_LOSSES = ("CrossEntropyDice", "BinaryCrossEntropy", "Dice", "Tversky", "Focal")
"""Those of probabilities of classes that do not exclude one another, at any voxel size."""

_RADAM = {"weight_decay": 1e-4, "decoupled_weight_decay": True}

_SLACK = 1e-9  # shares that are written as decimals sum to a little more than 1


def _exact_or_none(length: Any) -> Fraction | None:
    return None if length is None else exact(length)


def _plain(length: Fraction | None) -> int | float | str | None:
    """What YAML holds and :func:`exact` reads back as it was."""
    if length is None:
        return None
    if length.denominator == 1:
        return int(length)
    return float(length) if exact(float(length)) == length else str(length)


def _as_intervals(bounds: Any) -> Any:
    """One pair for all axes is a list of one pair."""
    alone = isinstance(bounds, (list, tuple)) and not any(isinstance(bound, (list, tuple)) for bound in bounds)
    return (bounds,) if alone else bounds


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if not (isfinite(low) and isfinite(high) and low <= high):
        raise ValueError(f"the lower bound comes first and both are finite; {low:g} to {high:g} are not so")
    return bounds


T = TypeVar("T")
Length = Annotated[Fraction, BeforeValidator(exact), PlainSerializer(_plain)]
Bound = Annotated[Fraction | None, BeforeValidator(_exact_or_none), PlainSerializer(_plain)]
Size = tuple[Length, ...]
Factor = tuple[Annotated[int, Field(ge=1)], ...]
Interval = Annotated[tuple[T, T], AfterValidator(_ascending)]
IntervalPerAxis = Annotated[tuple[Interval[PositiveFloat], ...], BeforeValidator(_as_intervals), Field(min_length=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    """Abstract: unknown fields are errors, and nothing changes after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Region(_Strict):
    """A box, from ``begin`` to ``end`` in nm from the raw volume's corner; ``null`` is as far as the labels reach."""

    begin: tuple[Bound, ...]
    end: tuple[Bound, ...]

    def __str__(self) -> str:
        ends = ([_plain(bound) for bound in end] for end in (self.begin, self.end))
        begin, end = (", ".join("null" if bound is None else str(bound) for bound in end) for end in ends)
        return f"[{begin}] to [{end}] nm"

    @model_validator(mode="after")
    def _check(self) -> Region:
        if len(self.begin) != len(self.end):
            raise ValueError(f"begin has {len(self.begin)} axes and end {len(self.end)}")
        for b, e in zip(self.begin, self.end, strict=True):
            if b is not None and e is not None and b >= e:
                raise ValueError(f"a region ends after it begins; {_plain(b)} to {_plain(e)} nm does not")
        return self


class DataConfig(_Strict):
    """Where the data is within the volume, whose path is given when the job starts.

    Attributes:
        raw: the multiscale group of the raw data.
        labels: the group that holds one multiscale group for each class.
        classes: the classes to learn, in the order of the network's output channels.
        translation: what the files' positions name, voxel centres or corners; as their format says if None.
        groups: for a class that unites several, the names of their label volumes: ``mito: [mito_mem, mito_lum]``.
        placement: what becomes of labels whose voxels lie between those of the raw data: "exact" refuses them,
            "resample" has the raw data read at the labels' voxels, to the part of a voxel.
        padding: what the network sees beyond the raw volume.
        intensities: those that the network sees as -1 and 1, as fractions of the data type's range: about the darkest
            and the brightest of the tissue. Networks learn faster from values that vary about zero.
        cache: MiB of decoded chunks that every process keeps.
    """

    raw: str
    labels: str
    classes: tuple[str, ...] = Field(min_length=1)
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    translation: Literal["centre", "corner"] | None = None
    placement: Literal["exact", "resample"] = "exact"
    padding: Literal["constant", "reflect"] = "reflect"
    intensities: tuple[float, float] = (0.0, 1.0)
    cache: int = Field(256, ge=0)

    @property
    def learned(self) -> dict[str, Any]:
        """What a network takes for granted once it was trained: plain values."""
        return self.model_dump(mode="json", include={"classes", "padding", "intensities"})

    def members(self, label: str) -> tuple[str, ...]:
        """The label volumes that a class unites: its own unless ``groups`` says otherwise."""
        return self.groups.get(label, (label,))

    @field_validator("classes")
    @classmethod
    def _differ(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError(f"every class is learned once; {', '.join(classes)} repeats one")
        return classes

    @field_validator("groups")
    @classmethod
    def _unite(cls, groups: dict[str, tuple[str, ...]], info: ValidationInfo) -> dict[str, tuple[str, ...]]:
        for name, members in groups.items():
            if name not in info.data.get("classes", ()):
                raise ValueError(f"{name} is none of the classes {', '.join(info.data.get('classes', ()))}")
            if not members:
                raise ValueError(f"{name} unites no classes")
        return groups

    @field_validator("intensities")
    @classmethod
    def _within_the_range(cls, intensities: tuple[float, float]) -> tuple[float, float]:
        low, high = intensities
        if not 0 <= low < high <= 1:
            raise ValueError(f"intensities go up within 0 and 1; {low} to {high} do not")
        return intensities


class SubnetConfig(_Strict):
    """One scale: see :class:`scalenet_gp.networks.UNetOptions`, and of its join :func:`scalenet_gp.build_scalenet`."""

    top_resolution: Size
    downsample_factors: tuple[Factor, ...] | None = None
    kernel_sizes: tuple[Factor, ...] | None = None
    base_nc: int = Field(12, ge=1)
    nc_increase_factor: int = Field(2, ge=1)
    convs_per_level: int | None = Field(None, ge=1)
    num_final_convs: int = Field(1, ge=1)
    norm_layer: Literal["batch", "instance", "group"] | None = None
    residual: bool = False
    dropout_prob: float | None = Field(None, ge=0, lt=1)
    squeeze_excitation: bool = False
    squeeze_ratio: int = Field(2, ge=1)
    eca: bool = False
    separable: bool = False
    activation: str = "ReLU"
    downsample_mode: Literal["max", "mean", "strided"] = "max"
    upsample_mode: Literal["nearest", "linear", "transposed"] = "nearest"
    attention_gates: bool = False
    bottleneck: Literal["atrous", "transformer"] | None = None
    bottleneck_join: Literal["concatenate", "sum", "gated_sum", "attention"] | None = None


class SectionsConfig(_Strict):
    """Faults of serial sections: see :class:`scalenet_gp.nodes.MissingSections` and its siblings.

    Attributes:
        thickness: of a section, nm along the first axis.
        missing: how likely a section is to be missing.
        low_contrast: how likely a section is to be pale.
        contrast: bounds of a pale section's contrast.
        slip: how likely a section is to be displaced alone, raw data and labels together.
        shift: how likely a section is to be displaced with all that follow.
        displacement_sigma: standard deviation of a displacement, nm; above 0 where there are any.
    """

    thickness: Annotated[Length, Field(gt=0)]
    missing: Probability = 0.0
    low_contrast: Probability = 0.0
    contrast: Interval[NonNegativeFloat] = (0.1, 0.5)
    slip: Probability = 0.0
    shift: Probability = 0.0
    displacement_sigma: Annotated[Length, Field(ge=0)] = Fraction(0)

    @model_validator(mode="after")
    def _displaced(self) -> SectionsConfig:
        if (self.slip or self.shift) and not self.displacement_sigma:
            raise ValueError(
                f"slip is {self.slip} and shift {self.shift}, but displacement_sigma is 0 nm; write a length above 0"
            )
        return self


class AugmentationConfig(_Strict):
    """What is varied at random: see :class:`scalenet_gp.nodes.DeformAugment` and :class:`IntensityAugment`.

    Attributes:
        control_point_spacing: nm between the control points of the elastic deformation.
        jitter_sigma: standard deviation (nm) of their displacement.
        rotation_axes: axes within which to rotate: none, two or three.
        mirror_axes: axes to mirror.
        transpose_axes: axes that change places.
        scale_interval: bounds of the factor by which a sample is read from a larger region than it fills: one pair, or
            one for each axis.
        contrast: bounds of the factor on intensities.
        brightness: bounds of what is added to intensities in [0, 1].
        gamma: bounds of their exponent.
        blur: bounds of the standard deviation (nm) of a Gaussian blur.
        noise_variance: of the Gaussian noise on every scale; none if 0.
        sections: faults of serial sections; none if absent.
    """

    control_point_spacing: Size
    jitter_sigma: Size
    rotation_axes: tuple[int, ...] = ()
    mirror_axes: tuple[int, ...] = ()
    transpose_axes: tuple[int, ...] = ()
    scale_interval: IntervalPerAxis = ((1.0, 1.0),)
    contrast: Interval[float] = (0.8, 1.2)
    brightness: Interval[float] = (-0.1, 0.1)
    gamma: Interval[PositiveFloat] = (1.0, 1.0)
    blur: Interval[NonNegativeFloat] = (0.0, 0.0)
    noise_variance: float = Field(0.001, ge=0, allow_inf_nan=False)
    sections: SectionsConfig | None = None


class StratumConfig(_Strict):
    """Places of one kind: see :class:`scalenet_gp.nodes.ByStratum`.

    Attributes:
        weight: how often samples are taken there.
        regions: where they are taken.
    """

    weight: float = Field(ge=0, allow_inf_nan=False)
    regions: tuple[Region, ...] = Field(min_length=1)


class SamplingConfig(_Strict):
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
            raise ValueError(f"the shares sum to {total:g}; they may sum to 1 at most")
        return classes


class OptimizerConfig(_Strict):
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
            raise ValueError(f"torch.optim has no optimizer {self.name!r}")
        _check_arguments(f"torch.optim.{self.name}", kind, self.arguments, ("params", "lr"))
        return self

    def make(self, parameters: Iterable[torch.nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        """The optimizer of ``parameters``."""
        made: torch.optim.Optimizer = getattr(torch.optim, self.name)(parameters, lr=learning_rate, **self.arguments)
        return made


class LossConfig(_Strict):
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
            raise ValueError(f"there is no loss {self.name!r}; there are {', '.join(_LOSSES)}")
        self.make()
        return self

    def make(self) -> torch.nn.Module:
        """The loss."""
        kind = getattr(losses, self.name)
        _check_arguments(self.name, kind, self.arguments, ())
        made: torch.nn.Module = kind(**self.arguments)
        return made


class LossWeights(_Strict):
    """The outputs' weights at one iteration; between two, they change evenly.

    Attributes:
        iteration: when.
        weights: of the outputs, from coarse to fine.
    """

    iteration: int = Field(ge=0)
    weights: tuple[NonNegativeFloat, ...] = Field(min_length=1)


class TrainingConfig(_Strict):
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
        recompute: patterns of nodes whose insides are computed again in the backward pass, to save memory.
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
    recompute: tuple[str, ...] = ()
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


class ValidationConfig(_Strict):
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


class Config(_Strict):
    """A run from training to evaluation.

    Attributes:
        data: what is read.
        network: the scales from coarse to fine.
        augmentation: what is varied while training; nothing if absent.
        training: how it is trained.
        validation: how it is judged meanwhile; not at all if absent.
        evaluation: the part of the annotation that training never sees.
        block_shape: nm per axis that are predicted at a time.
        threshold: a voxel from this probability on counts as the class.
    """

    data: DataConfig
    network: tuple[SubnetConfig, ...] = Field(min_length=1)
    augmentation: AugmentationConfig | None = None
    training: TrainingConfig
    validation: ValidationConfig | None = None
    evaluation: Region
    block_shape: Size
    threshold: float = Field(0.5, gt=0, lt=1)

    @classmethod
    def read(cls, path: Path) -> Config:
        """The config in a YAML file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no YAML, or a field is unknown, missing or out of its range; each is named.
        """
        if not path.is_file():
            raise FileNotFoundError(f"there is no config {path}")
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no YAML: {error}") from error
        except ValidationError as error:
            raise ValueError(f"{path}: {'; '.join(map(_in_words, error.errors()))}") from error

    def write(self, path: Path) -> None:
        """Write it as YAML; :meth:`read` gives the same config again."""
        plain = self.model_dump(mode="json", exclude_none=False)
        text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=120)
        with whole_file(path) as beside:
            beside.write_text(text, encoding="utf-8")

    def build_network(self) -> LeibNet:
        """The ScaleNet with one output channel for each class at every scale, each a probability."""
        subnets: list[dict[str, Any]] = [
            {**subnet.model_dump(exclude_none=True), "output_nc": len(self.data.classes)} for subnet in self.network
        ]
        return build_scalenet(subnets)


def _check_arguments(what: str, kind: type, arguments: Mapping[str, Any], own: tuple[str, ...]) -> None:
    """Refuse arguments that a class does not take, or that are given otherwise."""
    taken = [name for name in inspect.signature(kind).parameters if name not in own]
    unknown = [name for name in arguments if name not in taken]
    if unknown:
        raise ValueError(f"{what} takes no argument {', '.join(unknown)} here; it takes {', '.join(taken)}")


def _in_words(problem: Mapping[str, Any]) -> str:
    """Which field, what is wrong with it, and its value where the message does not say it."""
    field = ".".join(map(str, problem["loc"])) or "the config"
    told = problem["type"] in ("missing", "extra_forbidden", "value_error", "model_type")
    return f"{field}: {problem['msg']}" + ("" if told else f", not {problem['input']!r}")
