"""The file of an experiment: models, data sets and seeds, each combination of which is a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, field_validator, model_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Options, describe_problems, suggest
from scalenet_gp.pipelines.config import load_yaml
from scalenet_gp.volumes import whole_path

__all__ = ["Budget", "Match", "Matrix", "Part", "merge_settings"]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
"""A name that is a folder, too."""

Part = dict[str, Any] | str
"""Fields of a run file, or the path of a YAML file that holds such."""


class Budget(Options):
    """The length of the training of every run: one of the three. ``training.iterations`` follows from it.

    Attributes:
        steps: iterations.
        seconds: processor seconds (user and system, of all threads) of preparing batches and learning from them, as a
            dry run of a few steps measures them before the first run starts, while nothing else is computed; on a GPU,
            seconds by the clock. Neither validation nor pictures nor checkpoints are counted.
        macs: multiply-accumulates of the forward and backward passes of all batches.

    Example:
        >>> Budget(steps=500).steps
        500
    """

    steps: PositiveInt | None = None
    seconds: PositiveFloat | None = None
    macs: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one(self) -> Budget:
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            raise ConfigError(f"it has one of steps, seconds and macs, and here are {', '.join(given) or 'none'}")
        return self


class Match(Options):
    """The search of the width of every model, so that it takes as much as a reference does.

    The width is ``base_nc``. Networks with several keep the proportions of these.

    Attributes:
        by: what is to be the same: ``parameters``; ``macs``, the multiply-accumulates per voxel of the finest output
            when a block of ``prediction.block_shape`` is predicted; or ``time``, the processor seconds of an iteration
            as ``budget.seconds`` counts them.
        reference: name of the model that stays as it is.
        tolerance: the largest difference that is accepted, as a share of the reference's.

    Example:
        >>> Match(by="macs", reference="scalenet").tolerance
        0.1
    """

    by: Literal["parameters", "macs", "time"]
    reference: str
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.1


class Matrix(Options):
    """An experiment: every model on every data set with every seed.

    The run file of a run is the base, changed by the fields of the data set, then by those of the model. The seed and
    the budget set ``training.seed`` and ``training.iterations``. Mappings are changed field by field; a mapping with
    another ``kind``, a list and any other value replace what is there.

    Attributes:
        version: version of the format; 1.
        base: the run file that all runs have in common.
        models: the models by name, each with the fields that it changes.
        data: the data sets by name, likewise. A ``data.folder`` is that of the file that it stands in, or of this one.
        seeds: seeds of the runs.
        budget: length of the training; that of the run files unless given.
        match: search of widths; none unless given.
        objects: classes, or objects of affinities, that are found in each prediction and compared with instances of the
            annotation, as ``segment`` and ``evaluate --segmentation`` do; none unless given.
        parallel: runs at a time.
        threads: threads that each run computes with.

    Example:
        >>> Matrix(base="run.yaml", models={"unet": {}, "wide": {"network": {"base_nc": 24}}}, seeds=(0, 1)).seeds
        (0, 1)
    """

    version: Literal[1] = 1
    base: Part
    models: Annotated[dict[Name, Part], Field(min_length=1)]
    data: Annotated[dict[Name, Part], Field(min_length=1)] = Field({"data": {}})
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)] = (0,)
    budget: Budget | None = None
    match: Match | None = None
    objects: tuple[str, ...] = ()
    parallel: PositiveInt = 1
    threads: PositiveInt = 1

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ConfigError("a seed is listed twice")
        return seeds

    @model_validator(mode="after")
    def _check_reference(self) -> Matrix:
        if self.match is not None and self.match.reference not in self.models:
            raise ConfigError(
                f"match.reference is {self.match.reference!r}, which is not a model; "
                f"{suggest(self.match.reference, list(self.models))}"
            )
        return self

    @classmethod
    def read(cls, path: Path, volume: str | None = None) -> Matrix:
        """Return the matrix in a YAML file, with the files that it names read in: no field is a path then.

        Args:
            path: the file.
            volume: folder, or its URL, that paths of the base's data start at, instead of ``data.folder``.

        Raises:
            FileNotFoundError: it, or a file that it names, does not exist.
            ConfigError: one is not YAML, or a field is unknown, missing or out of its range; each is named.
        """
        content = load_yaml(path)
        if isinstance(content, dict) and type(content.get("version")) is not int:
            raise ConfigError(f"{path}: version is missing, or is not a number: write `version: 1`")
        try:
            matrix = cls.model_validate(content)
        except ValidationError as error:
            problems = "; ".join(describe_problems(error, cls, content, "the matrix"))
            raise ConfigError(f"{path}: {problems}") from error
        folder = path.absolute().parent
        base = _whole(matrix.base, folder, "base", holds_data=True)
        if volume is not None and isinstance(base.get("data"), dict):
            base["data"] = {**base["data"], "folder": str(whole_path(volume))}
        return matrix.model_copy(
            update={
                "base": base,
                "models": {name: _whole(part, folder, f"models.{name}") for name, part in matrix.models.items()},
                "data": {name: _whole(part, folder, f"data.{name}") for name, part in matrix.data.items()},
            }
        )

    def settings(self, model: str, data: str) -> dict[str, Any]:
        """Return the plain settings of a model on a data set, before width, iterations and seed are set.

        Only for a matrix that :meth:`read` returned.
        """
        settings: Any = {}
        for part in (self.base, self.data[data], self.models[model]):
            settings = merge_settings(settings, part)
        return dict(settings)


def merge_settings(there: Any, change: Any) -> Any:
    """Return plain settings with changes.

    Args:
        there: the settings.
        change: the changes. Mappings are merged field by field, unless they are of another ``kind``.

    Example:
        >>> merge_settings({"network": {"kind": "unet", "base_nc": 12}, "seed": 0}, {"network": {"base_nc": 24}})
        {'network': {'kind': 'unet', 'base_nc': 24}, 'seed': 0}
    """
    if not (isinstance(there, Mapping) and isinstance(change, Mapping)):
        return change
    if "kind" in change and change["kind"] != there.get("kind"):
        return dict(change)
    return {**there, **{name: merge_settings(there.get(name), value) for name, value in change.items()}}


def _whole(part: Part, folder: Path, field: str, *, holds_data: bool = False) -> dict[str, Any]:
    """Return the fields of a part, those of its file if it names one, with the folder of its data made absolute.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it does not hold a mapping.
    """
    if isinstance(part, str):
        path = folder / part
        if not path.is_file():
            raise FileNotFoundError(f"{field} names {path}, which does not exist")
        content, folder = load_yaml(path), path.absolute().parent
        if not isinstance(content, dict):
            raise ConfigError(f"{field} names {path}, which does not hold fields of a run file")
        part = content
    data = part.get("data")
    if not isinstance(data, dict) or not (holds_data or "sources" in data or "folder" in data):
        return dict(part)
    place = data.get("folder")
    if place is None or "://" not in str(place):
        place = str((folder / (place or "")).absolute())
    return {**part, "data": {**data, "folder": place}}
