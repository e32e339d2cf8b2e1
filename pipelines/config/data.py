"""The part ``data`` of a run file: volumes and the classes in them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, field_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Options

__all__ = ["DataConfig", "SourceConfig"]


def _as_mapping(classes: Any) -> Any:
    """A list of names has one label volume for each; the name of one label volume is a list of one."""
    if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
        if len(set(classes)) < len(classes):
            raise ConfigError(f"every class is learned once; {', '.join(classes)} repeats one")
        return {name: (name,) for name in classes}
    if isinstance(classes, dict):
        return {name: (labels,) if isinstance(labels, str) else labels for name, labels in classes.items()}
    return classes


def _shortest(classes: dict[str, tuple[str, ...]]) -> list[str] | dict[str, str | list[str]]:
    if all(labels == (name,) for name, labels in classes.items()):
        return list(classes)
    return {name: labels[0] if len(labels) == 1 else list(labels) for name, labels in classes.items()}


_NAMES = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_CLASSES = {
    "anyOf": [
        _NAMES,
        {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, _NAMES]}, "minProperties": 1},
    ]
}

Classes = Annotated[
    dict[str, Annotated[tuple[str, ...], Field(min_length=1)]],
    Field(min_length=1),
    BeforeValidator(_as_mapping),
    PlainSerializer(_shortest),
    WithJsonSchema(_CLASSES),
]
"""Classes by name, each with the names of the label volumes that it unites."""


class SourceConfig(Options):
    """One volume with its annotation. Paths are within the folder that a job gets.

    Attributes:
        raw: the multiscale group of the raw data.
        labels: the group that holds one multiscale group for each label volume.
        translation: the points that the files' positions name, voxel centres or corners; as their format says unless
            given.
        alignment: the treatment of labels whose voxels lie between those of the raw data: ``exact`` refuses them,
            ``resample`` reads the raw data at the labels' voxels, to the part of a voxel.

    Example:
        >>> SourceConfig(raw="em/raw", labels="labels/crop1").alignment
        'exact'
    """

    raw: str
    labels: str
    translation: Literal["centre", "corner"] | None = None
    alignment: Literal["exact", "resample"] = "exact"


class DataConfig(Options):
    """Data to learn from and to predict.

    Attributes:
        sources: the volumes; one, as several cannot be read yet.
        classes: the classes to learn, in the order of the network's output channels: a list of names, or a mapping of
            names to label volumes. A class may unite several: ``mito: [mito_mem, mito_lum]``.
        padding: values that the network sees beyond the raw volume: zero, or the volume mirrored.
        intensities: intensities that the network sees as -1 and 1, as fractions of the data type's range: about the
            darkest and the brightest of the tissue. Networks learn faster from values that vary about zero.
        cache: MiB of decoded chunks that every process keeps.

    Example:
        >>> data = DataConfig.create(sources=[{"raw": "em/raw", "labels": "labels"}], classes={"mito": ["lum", "mem"]})
        >>> data.classes
        {'mito': ('lum', 'mem')}
    """

    sources: tuple[SourceConfig, ...]
    classes: Classes
    padding: Literal["constant", "reflect"] = "reflect"
    intensities: tuple[float, float] = (0.0, 1.0)
    cache: int = Field(256, ge=0)

    @property
    def source(self) -> SourceConfig:
        """The only source."""
        return self.sources[0]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in the order of the output channels."""
        return tuple(self.classes)

    @field_validator("sources")
    @classmethod
    def _one(cls, sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
        if len(sources) != 1:
            raise ConfigError(f"the list has {len(sources)} entries; it has to have one, as several cannot be read yet")
        return sources

    @field_validator("intensities")
    @classmethod
    def _within_the_range(cls, intensities: tuple[float, float]) -> tuple[float, float]:
        low, high = intensities
        if not 0 <= low < high <= 1:
            raise ConfigError(f"intensities go up within 0 and 1; {low} to {high} do not")
        return intensities
