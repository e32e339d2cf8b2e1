"""The part ``data`` of a run file: volumes and the classes in them."""

from __future__ import annotations

from math import fsum
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Length, Options, Probability, suggest
from scalenet_gp.pipelines.config.intensities import Intensities
from scalenet_gp.pipelines.config.region import Region

__all__ = [
    "ChallengeConfig",
    "DataConfig",
    "DatasplitConfig",
    "ReadingConfig",
    "SamplingConfig",
    "SourceConfig",
    "SplitConfig",
    "Use",
]

Use = Literal["train", "validate", "evaluate"]
"""The purpose of a source."""


def _as_mapping(classes: Any) -> Any:
    """A list of names has one label volume for each; a single label volume or id is a list of one."""
    if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
        if len(set(classes)) < len(classes):
            raise ConfigError(f"every class is learned once; {', '.join(classes)} repeats one")
        return {name: (name,) for name in classes}
    if isinstance(classes, dict):
        return {name: (of,) if isinstance(of, str | int) else of for name, of in classes.items()}
    return classes


def _shortest(classes: dict[str, tuple[str | int, ...]]) -> list[str] | dict[str, Any]:
    if all(labels == (name,) for name, labels in classes.items()):
        return list(classes)
    return {name: labels[0] if len(labels) == 1 else list(labels) for name, labels in classes.items()}


def _as_list(ids: Any) -> Any:
    return (ids,) if isinstance(ids, int) else () if ids is None else ids


def _one_or_list(ids: tuple[int, ...]) -> int | list[int]:
    return ids[0] if len(ids) == 1 else list(ids)


_NAMES = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_MEMBER = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
_MEMBERS = {"anyOf": [*_MEMBER["anyOf"], {"type": "array", "items": _MEMBER, "minItems": 1}]}
_CLASSES = {"anyOf": [_NAMES, {"type": "object", "additionalProperties": _MEMBERS, "minProperties": 1}]}
_IDS = {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}

Classes = Annotated[
    dict[str, Annotated[tuple[int | str, ...], Field(min_length=1)]],
    Field(min_length=1),
    BeforeValidator(_as_mapping),
    PlainSerializer(_shortest),
    WithJsonSchema(_CLASSES),
]
"""Classes by name, each with the names of the label volumes that it unites, and its ids in volumes of ids."""

Ids = Annotated[tuple[int, ...], BeforeValidator(_as_list), PlainSerializer(_one_or_list), WithJsonSchema(_IDS)]


class ReadingConfig(Options):
    """Abstract: how the files of a source are read, and how often samples are taken from it.

    Attributes:
        weight: weight of the source among all when samples are drawn, in any unit; with several crops, that of each.
        unit: unit of lengths in files that name none: ``nanometer``, ``micrometer``, ``angstrom``, ...
        select: for an axis of the raw data before the spatial ones, the entry to read, by its index or a channel's
            name: ``{t: 0, c: mito}``.
        translation: the points that the files' positions name, voxel centres or corners; as their format says unless
            given.
        intensities: instead of those of ``data``, for raw data that are darker or brighter than others.
        groups: table of classes, as CellMap's ``classes.csv``: a label volume that is missing is united from those of
            its group.
    """

    weight: float = Field(1.0, ge=0, allow_inf_nan=False)
    unit: str | None = None
    select: dict[str, int | str] = Field(default_factory=dict)
    translation: Literal["centre", "corner"] | None = None
    intensities: Intensities | None = None
    groups: str | None = None


class SourceConfig(ReadingConfig):
    """One volume with its annotation. Paths start at the folder of the run file, or at ``--volume``.

    Attributes:
        raw: the multiscale group of the raw data.
        labels: the group that holds one multiscale group for each label volume; or one volume of ids or instances. With
            ``*``, as in ``a.zarr/labels/crop*``, every match is a source of its own; wildcards of ``raw`` stand for
            the same text as those of ``labels``, in their order.
        inputs: by name, the further volumes that the network's ``inputs`` name: a multiscale group each, such as an
            output of an earlier run's prediction, ``{lsd: first.zarr/output}``. With ``*`` as ``raw``.
        use: the purpose of the source: ``train``, ``validate`` or ``evaluate``. Without it, the source serves for all
            three, told apart by ``training.region``, ``validation.region`` and ``evaluation.region``, or by
            ``data.split``.
        weight: weight of the source among all when samples are drawn, in any unit; of each, where ``labels`` matches
            several.
        region: the part of the annotation to use; all of it unless given.
        encoding: ``classes`` is a label volume for each class, with CellMap's annotation attributes where it has them,
            and else 0 for absent and positive values for present. ``ids`` is one volume in which ``data.classes`` says
            the ids of each class. ``instances`` is one volume with a number for each object of one class.
        instances_of: the class that instances are of; needed where there are several classes.
        unlabelled: the id, or several, of voxels that nobody has annotated. Unless given, 0 means that there is no
            class.
        only: the label volumes to use, by name; others count as not annotated. All that there are unless given.
        unit: unit of lengths in files that name none: ``nanometer``, ``micrometer``, ``angstrom``, ...
        select: for an axis of the raw data before the spatial ones, the entry to read, by its index or a channel's
            name: ``{t: 0, c: mito}``.
        translation: the points that the files' positions name, voxel centres or corners; as their format says unless
            given.
        alignment: the treatment of voxels that do not fit: those of labels that lie between those of the raw data, or
            that do not divide an output's. ``exact`` refuses them. ``resample`` reads the raw data at the labels'
            voxels, to the part of a voxel, and makes an output's voxels of the labels by the majority of their volume.
        voxel_size: the voxel size of raw data whose files state none, and of such labels.
        intensities: instead of those of ``data``, for raw data that are darker or brighter than others.
        groups: table of classes, as CellMap's ``classes.csv``: a label volume that is missing is united from those of
            its group.

    Example:
        >>> SourceConfig(raw="em/raw", labels="labels/crop1").alignment
        'exact'
    """

    raw: str
    labels: str
    inputs: dict[str, str] = Field(default_factory=dict)
    use: Use | None = None
    region: Region | None = None
    encoding: Literal["classes", "ids", "instances"] = "classes"
    instances_of: str | None = None
    unlabelled: Ids = ()
    only: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    alignment: Literal["exact", "resample"] = "exact"
    voxel_size: Annotated[tuple[Length, ...], Field(min_length=2, max_length=3)] | None = None

    @model_validator(mode="after")
    def _check_encoding(self) -> SourceConfig:
        if self.raw.rstrip("/") == self.labels.rstrip("/"):
            raise ConfigError(f"labels is {self.labels}, as raw is: name the volume of its labels")
        if self.encoding != "classes" and self.only is not None:
            raise ConfigError(f"only names label volumes, and the encoding {self.encoding} has one: leave it out")
        if self.encoding != "instances" and self.instances_of is not None:
            raise ConfigError(f"instances_of is for the encoding instances, not {self.encoding}: leave it out")
        return self


class DatasplitConfig(ReadingConfig):
    """The crops of a datasplit, as the CellMap Segmentation Challenge has it: a source for each row.

    Attributes:
        datasplit: CSV file. Each row says what a crop is used for, its raw volume and its classes. Paths in it start
            where those of the run file do.
        weight: weight of each crop.
        alignment: as that of a source.

    Example:
        >>> DatasplitConfig(datasplit="datasplit.csv").alignment
        'resample'
    """

    datasplit: str
    alignment: Literal["exact", "resample"] = "resample"


class ChallengeConfig(ReadingConfig):
    """The crops of a folder that the CellMap Segmentation Challenge's tool has filled: a source for each.

    Attributes:
        challenge: folder with ``{dataset}/{dataset}.zarr/recon-1/labels/groundtruth/crop{number}``.
        crops: numbers of the crops to use; ``all`` of them unless given.
        use: the purpose of the crops; ``data.split`` says unless given.
        weight: weight of each crop.
        alignment: as that of a source.

    Example:
        >>> ChallengeConfig.create(challenge="data", crops=[1, 2]).crops
        (1, 2)
    """

    challenge: str
    crops: Literal["all"] | Annotated[tuple[int, ...], Field(min_length=1)] = "all"
    use: Use | None = None
    alignment: Literal["exact", "resample"] = "resample"


def _entry_name(entry: Any) -> str:
    """Return the name of the model of an entry of ``sources``, which a field tells."""
    for model, field in ((DatasplitConfig, "datasplit"), (ChallengeConfig, "challenge")):
        if isinstance(entry, model) or (isinstance(entry, dict) and field in entry):
            return model.__name__
    return SourceConfig.__name__


SourceEntry = Annotated[
    Annotated[SourceConfig, Tag("SourceConfig")]
    | Annotated[DatasplitConfig, Tag("DatasplitConfig")]
    | Annotated[ChallengeConfig, Tag("ChallengeConfig")],
    Discriminator(_entry_name),
]
"""A source, or several from a datasplit or a folder of the challenge."""


class SplitConfig(Options):
    """The choice of sources to validate with, among those that do not say their use. The others are trained on.

    The choice depends on the names of the sources and on the seed alone.

    Attributes:
        by: ``dataset`` keeps crops of one raw volume together; ``crop`` does not.
        share: share of the crops to validate with; of several folds none.
        folds: number of folds of about as many crops.
        fold: the fold to validate with, from 0 on.
        seed: seed of the choice.

    Example:
        >>> SplitConfig(folds=5, fold=2).by
        'dataset'
    """

    by: Literal["dataset", "crop"] = "dataset"
    share: float | None = Field(None, gt=0, lt=1)
    folds: int | None = Field(None, ge=2)
    fold: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _one_of_both(self) -> SplitConfig:
        if (self.share is None) == (self.folds is None):
            raise ConfigError("a split has either a share or folds")
        if self.folds is not None and self.fold >= self.folds:
            raise ConfigError(f"fold is {self.fold}, and {self.folds} folds are counted from 0 to {self.folds - 1}")
        return self


class SamplingConfig(Options):
    """The shares of the sources in the samples.

    Attributes:
        by: ``volume`` draws a source, and a place in it by ``training.sampler``. ``class`` draws a class, then a source
            that has it, then one of its voxels there.
        temperature: from 0, all alike, to 1, in proportion to the amount of annotation: a source or class of n times as
            much is drawn n to this power times as often.
        shares: with ``by: class``, the share of the samples of each class, 1 in sum, in place of the temperature's.
            The share of a class without a voxel to learn from goes to the others.

    Example:
        >>> SamplingConfig(by="class").temperature
        0.0
    """

    by: Literal["volume", "class"] = "volume"
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0
    shares: Annotated[dict[str, Probability], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _share(self) -> SamplingConfig:
        if self.shares is not None and self.by != "class":
            raise ConfigError("shares are those of classes: they need by: class")
        if self.shares is not None and abs(fsum(self.shares.values()) - 1) > 1e-6:  # decimals rarely sum to 1 exactly
            raise ConfigError(f"shares sum to {fsum(self.shares.values()):g}; they have to sum to 1")
        return self


class DataConfig(Options):
    """Data to learn from and to predict.

    Attributes:
        folder: folder, or its URL, that relative paths start at; that of the run file unless given.
        sources: the volumes, any number.
        classes: the classes to learn, in the order of the network's output channels: a list of names, or a mapping of
            names to label volumes. A class may unite several: ``mito: [mito_mem, mito_lum]``. Whole numbers are its
            ids in sources with the encoding ``ids``: ``mito: [3, 4, 5]``. Names have no ``/``: folders have them too.
        sampling: the shares of the sources in the samples.
        split: the choice of sources to validate with.
        padding: values that the network sees beyond the raw volume: zero, or the volume mirrored.
        intensities: stored values that the network sees as -1 and 1: about the darkest and the brightest of the
            tissue, for example ``[52, 200]``. Networks learn faster from values that vary about zero. ``auto`` takes
            percentiles 0.5 and 99.5 of sampled tissue when a run begins, and the run keeps them. ``range`` is the whole
            range of a type of integers, and 0 to 1 for floats.
        cache: MiB of decoded chunks that every process keeps.

    Example:
        >>> data = DataConfig.create(sources=[{"raw": "em/raw", "labels": "labels"}], classes={"mito": ["lum", "mem"]})
        >>> data.classes
        {'mito': ('lum', 'mem')}
    """

    folder: str | None = None
    sources: Annotated[tuple[SourceEntry, ...], Field(min_length=1)]
    classes: Classes
    sampling: SamplingConfig = SamplingConfig()
    split: SplitConfig | None = None
    padding: Literal["constant", "reflect"] = "reflect"
    intensities: Intensities = "range"
    cache: int = Field(256, ge=0)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in the order of the output channels."""
        return tuple(self.classes)

    def label_volumes(self, name: str) -> tuple[str, ...]:
        """Return the names of the label volumes that a class unites; a class of which only ids are given has its own.

        Example:
            >>> data = DataConfig.create(sources=[{"raw": "em", "labels": "gt"}], classes={"mito": [3, 4], "er": "ER"})
            >>> data.label_volumes("mito"), data.label_volumes("er"), data.ids("mito"), data.ids("er")
            (('mito',), ('ER',), (3, 4), ())
        """
        return tuple(member for member in self.classes[name] if isinstance(member, str)) or (name,)

    def ids(self, name: str) -> tuple[int, ...]:
        """Return the ids of a class in volumes of ids."""
        return tuple(member for member in self.classes[name] if isinstance(member, int))

    @field_validator("classes")
    @classmethod
    def _names_of_folders(cls, classes: dict[str, Any]) -> dict[str, Any]:
        for name in classes:
            if "/" in name or name in ("", ".", ".."):
                raise ConfigError(
                    f"the class {name!r} cannot name a folder, in which its objects are stored: give it another name "
                    f"before its label volumes, as in {name.strip('./').replace('/', '_') or 'mito'}: {name or 'mito'}"
                )
        return classes

    @field_validator("sampling")
    @classmethod
    def _shares_of_classes(cls, sampling: SamplingConfig, info: ValidationInfo) -> SamplingConfig:
        classes = info.data.get("classes", {})
        for name in sampling.shares or {}:
            if classes and name not in classes:
                raise ConfigError(f"shares names {name}, which is not a class; {suggest(name, classes, 'the classes')}")
        return sampling

    @model_validator(mode="after")
    def _check_sources(self) -> DataConfig:
        for number, source in enumerate(self.sources):
            if not isinstance(source, SourceConfig):
                continue
            where = f"sources.{number}"
            if source.encoding == "ids" and not any(self.ids(name) for name in self.classes):
                raise ConfigError(
                    f"{where} has the encoding ids, and classes says no ids: write them, as in "
                    f"{self.class_names[0]}: [3, 4, 5]"
                )
            if source.encoding != "instances":
                continue
            if source.instances_of is None and len(self.classes) > 1:
                raise ConfigError(f"{where} has instances, and there are several classes: say instances_of which one")
            if source.instances_of is not None and source.instances_of not in self.classes:
                raise ConfigError(
                    f"{where} has instances_of {source.instances_of!r}; the classes are {', '.join(self.classes)}"
                )
        for name in self.classes:
            given = self.ids(name)
            for other in self.classes:
                if other < name and set(given) & set(self.ids(other)):
                    raise ConfigError(f"classes: {name} and {other} share an id, and a voxel has one id")
        return self
