"""What a run is, from training to evaluation: one YAML file.

Lengths are nanometres per spatial axis (z, y, x), exact: 4.6 is 23/5. Positions count from the corner of the raw
volume, so that a volume's first section begins at 0 whatever its file calls that place.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from scalenet_gp.errors import ConfigError
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks import build_scalenet
from scalenet_gp.options import Factor, Interval, IntervalPerAxis, Length, Options, Probability, Size
from scalenet_gp.pipelines.config.prediction import PredictionOptions
from scalenet_gp.pipelines.config.region import Region
from scalenet_gp.pipelines.config.training import TrainingConfig, ValidationConfig
from scalenet_gp.serialization import atomic_write

__all__ = ["AugmentationConfig", "Config", "DataConfig", "SectionsConfig", "SubnetConfig"]


class DataConfig(Options):
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
            raise ConfigError(f"every class is learned once; {', '.join(classes)} repeats one")
        return classes

    @field_validator("groups")
    @classmethod
    def _unite(cls, groups: dict[str, tuple[str, ...]], info: ValidationInfo) -> dict[str, tuple[str, ...]]:
        for name, members in groups.items():
            if name not in info.data.get("classes", ()):
                raise ConfigError(f"{name} is none of the classes {', '.join(info.data.get('classes', ()))}")
            if not members:
                raise ConfigError(f"{name} unites no classes")
        return groups

    @field_validator("intensities")
    @classmethod
    def _within_the_range(cls, intensities: tuple[float, float]) -> tuple[float, float]:
        low, high = intensities
        if not 0 <= low < high <= 1:
            raise ConfigError(f"intensities go up within 0 and 1; {low} to {high} do not")
        return intensities


class SubnetConfig(Options):
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


class SectionsConfig(Options):
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
            raise ConfigError(
                f"slip is {self.slip} and shift {self.shift}, but displacement_sigma is 0 nm; write a length above 0"
            )
        return self


class AugmentationConfig(Options):
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


class Config(Options):
    """A run from training to evaluation.

    Attributes:
        data: what is read.
        network: the scales from coarse to fine.
        augmentation: what is varied while training; nothing if absent.
        training: how it is trained.
        validation: how it is judged meanwhile; not at all if absent.
        evaluation: the part of the annotation that training never sees.
        prediction: how a region is predicted, block by block.
        threshold: a voxel from this probability on counts as the class.
    """

    data: DataConfig
    network: tuple[SubnetConfig, ...] = Field(min_length=1)
    augmentation: AugmentationConfig | None = None
    training: TrainingConfig
    validation: ValidationConfig | None = None
    evaluation: Region
    prediction: PredictionOptions
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
            raise ConfigError(f"{path} is no YAML: {error}") from error
        except ValidationError as error:
            raise ConfigError(f"{path}: {'; '.join(map(_in_words, error.errors()))}") from error

    def write(self, path: Path) -> None:
        """Write it as YAML; :meth:`read` gives the same config again."""
        plain = self.model_dump(mode="json", exclude_none=False)
        text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=120)
        with atomic_write(path) as beside:
            beside.write_text(text, encoding="utf-8")

    def build_network(self) -> LeibNet:
        """The ScaleNet with one output channel for each class at every scale, each a probability."""
        subnets: list[dict[str, Any]] = [
            {**subnet.model_dump(exclude_none=True), "output_nc": len(self.data.classes)} for subnet in self.network
        ]
        return build_scalenet(subnets)


def _in_words(problem: Mapping[str, Any]) -> str:
    """Which field, what is wrong with it, and its value where the message does not say it."""
    field = ".".join(map(str, problem["loc"])) or "the config"
    told = problem["type"] in ("missing", "extra_forbidden", "value_error", "model_type")
    return f"{field}: {problem['msg']}" + ("" if told else f", not {problem['input']!r}")
