"""The sources of a run file, one by one: matches of wildcards, rows of datasplits, crops of the challenge's folder."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scalenet_gp.errors import ConfigError, ScaleNetError
from scalenet_gp.options import suggest
from scalenet_gp.pipelines.config import (
    ChallengeConfig,
    Config,
    DataConfig,
    DatasplitConfig,
    Region,
    SourceConfig,
    Use,
)
from scalenet_gp.pipelines.data.split import validated_units
from scalenet_gp.volumes import StrPath, find_node, join, local_path, multiscale_groups, read_datasplit, whole_path

__all__ = ["Source", "resolve_sources", "sources_of"]

_WILDCARDS = re.compile(r"\*\*|[*?]|\[[^\]]*\]")
_GROUND_TRUTH = "recon-*/labels/groundtruth/crop*"
_RAW = "em/fibsem-uint8"
_LISTED = 9
_RESAMPLED = re.compile("; opened with alignment=.*")
_WORLD = re.compile(r"; World\(.*?\) would fit(?=;|$)")
_ARGUMENT = re.compile(r"\b(select|unit|voxel_size|translation|alignment)=")


@dataclass(frozen=True, slots=True)
class Source:
    """One volume with its annotation, as a run file means it.

    Attributes:
        name: the name in tables, records and files: the end of the labels' path, as short as it is unique.
        field: the field of the run file that it comes from, as ``data.sources.0``.
        config: its options, without wildcards, and with whole paths.
        alone: True for the only source: a class without labels is a mistake then. Of several, others may have it.

    Example:
        >>> Source("crop1", "data.sources.0", SourceConfig(raw="/a.zarr/raw", labels="/a.zarr/gt/crop1")).use is None
        True
    """

    name: str
    field: str
    config: SourceConfig
    alone: bool = True

    @property
    def use(self) -> Use | None:
        """The purpose of the source; None if it serves for all."""
        return self.config.use

    def narrow(self, config: Config, dims: int) -> Config:
        """Return the config of a run with this source alone, and with the regions of it that each purpose has."""
        everywhere = Region(begin=(None,) * dims, end=(None,) * dims)
        of_its_own = self.config.region or everywhere
        train, evaluate = config.training.region or everywhere, config.evaluation.region
        validate = None if config.validation is None else config.validation.region
        if self.use is not None:
            train = of_its_own
            evaluate = of_its_own if self.use == "evaluate" else None
            validate = of_its_own if self.use == "validate" else None
        update: dict[str, Any] = {
            "data": config.data.model_copy(update={"sources": (self.config,), "split": None}),
            "training": config.training.model_copy(update={"region": train}),
            "evaluation": config.evaluation.model_copy(update={"region": evaluate}),
        }
        if config.validation is not None:
            settings = config.validation
            update["validation"] = None if validate is None else settings.model_copy(update={"region": validate})
        return config.model_copy(update=update)

    @contextmanager
    def naming_faults(self, part: str = "") -> Iterator[None]:
        """Let errors within the context name the field of the run file; they keep their class.

        Args:
            part: the part of the source that is read: ``raw`` or ``labels``.
        """
        field = f"{self.field}.{part}".rstrip(".")
        try:
            yield
        except (ScaleNetError, FileNotFoundError) as error:
            text = str(error)
            text = _WORLD.sub("", text)
            cure = f"write {self.field}.alignment: resample, so that raw data and labels are resampled"
            text = _RESAMPLED.sub(f"; {cure}, or choose voxel sizes that theirs divide", text)
            text = _ARGUMENT.sub(rf"{self.field}.\1: ", text)
            raise type(error)(text if text.startswith(self.field) else f"{field}: {text}") from error


def resolve_sources(data: DataConfig, folder: StrPath) -> tuple[Source, ...]:
    """Return the sources of a run file in its order, each with its use.

    Args:
        data: the part ``data``.
        folder: folder, or its URL, that relative paths start at.

    Raises:
        FileNotFoundError: a datasplit or a folder does not exist.
        VolumeFormatError: a datasplit is malformed.
        ConfigError: wildcards match nothing, or a crop is not there; the message names the field.
    """
    folder = whole_path(folder)  # paths that go to other processes, or into a job, do not start at it again
    found: list[tuple[str, SourceConfig]] = []
    for number, entry in enumerate(data.sources):
        field = f"data.sources.{number}"
        found += [(field, source) for source in _expand(entry, field, folder)]
    names = _short_names([source.labels for _, source in found])
    alone = len(found) == 1
    sources = [Source(name, field, source, alone) for name, (field, source) in zip(names, found, strict=True)]
    if data.split is not None:
        open_ones = [number for number, source in enumerate(sources) if source.use is None]
        units = [names[number] for number in open_ones]
        if data.split.by == "dataset":
            raws = [sources[number].config.raw for number in open_ones]
            short = dict(zip(dict.fromkeys(raws), _short_names(list(dict.fromkeys(raws))), strict=True))
            units = [short[raw] for raw in raws]  # data that are moved are split alike
        validated = validated_units(units, data.split)
        for number, unit in zip(open_ones, units, strict=True):
            use: Use = "validate" if unit in validated else "train"
            with_use = sources[number].config.model_copy(update={"use": use})
            sources[number] = replace(sources[number], config=with_use)
    for source in sources:
        if source.use is None and source.config.region is not None:
            raise ConfigError(
                f"{source.field}.region is of a source that serves for all: say its use, or write training.region, "
                "validation.region and evaluation.region"
            )
    return tuple(sources)


def choose_source(data: DataConfig, folder: StrPath, name: str | None = None) -> Source:
    """Return the source of a name; the only one, if no name is given.

    Raises:
        ConfigError: there is no such source, or there are several and no name is given.
    """
    sources = resolve_sources(data, folder)
    names = [source.name for source in sources]
    if name is not None:
        if name not in names:
            raise ConfigError(f"data.sources has no {name!r}; {suggest(name, names)}")
        return sources[names.index(name)]
    if len(sources) > 1:
        listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
        raise ConfigError(f"data.sources are {len(sources)} volumes: choose one with --source; there are {listed}")
    return sources[0]


def sources_of(config: Config, sources: Sequence[Source], use: Use) -> tuple[Source, ...]:
    """Return the sources that serve for a purpose: those that say so, and those without a use in its region.

    Example:
        >>> sources_of(None, (), "train")
        ()
    """
    regions: Mapping[Use, Any] = {}
    if sources:
        validation = None if config.validation is None else config.validation.region
        regions = {"train": True, "validate": validation, "evaluate": config.evaluation.region}
    return tuple(s for s in sources if s.use == use or (s.use is None and regions[use]))


def _expand(entry: SourceConfig | DatasplitConfig | ChallengeConfig, field: str, folder: StrPath) -> list[SourceConfig]:
    if entry.groups is not None:
        entry = entry.model_copy(update={"groups": _whole(folder, entry.groups)})
    if isinstance(entry, SourceConfig):
        return _matches(entry, field, folder)
    common = {name: getattr(entry, name) for name in ("weight", "unit", "select", "translation", "intensities")}
    common |= {"groups": entry.groups, "alignment": entry.alignment}
    if isinstance(entry, DatasplitConfig):
        crops = read_datasplit(_whole(folder, entry.datasplit))
        return [
            SourceConfig(
                raw=_whole(folder, crop.raw),
                labels=_whole(folder, crop.labels),
                use=crop.usage,
                only=crop.classes,
                **common,
            )
            for crop in crops
        ]
    found = _challenge_crops(entry, field, folder)
    return [SourceConfig(raw=raw, labels=labels, use=entry.use, **common) for raw, labels in found]


def _challenge_crops(entry: ChallengeConfig, field: str, folder: StrPath) -> list[tuple[str, str]]:
    """Return raw volume and labels of each crop in the challenge's folder."""
    top = _whole(folder, entry.challenge)
    local = local_path(top)
    if local is None or not local.is_dir():
        raise FileNotFoundError(f"{field}.challenge: there is no folder {top}")
    crops = _sorted(str(path) for depth in ("*.zarr", "*/*.zarr") for path in local.glob(f"{depth}/{_GROUND_TRUTH}"))
    if not crops:
        raise ConfigError(
            f"{field}.challenge: {top} has no crops; they are searched at {{dataset}}/{{dataset}}.zarr/{_GROUND_TRUTH}"
        )
    if entry.crops != "all":
        numbers = {Path(path).name: path for path in crops}
        missing = [number for number in entry.crops if f"crop{number}" not in numbers]
        if missing:
            raise ConfigError(
                f"{field}.crops: {top} has no crop {', '.join(map(str, missing))}; it has {len(crops)} others"
            )
        crops = [numbers[f"crop{number}"] for number in entry.crops]
    return [(str(Path(path).parents[2] / _RAW), path) for path in crops]


def _matches(source: SourceConfig, field: str, folder: StrPath) -> list[SourceConfig]:
    """Return a source for each match of the wildcards in its paths."""
    raw, labels = _whole(folder, source.raw), _whole(folder, source.labels)
    source = source.model_copy(update={"inputs": {name: _whole(folder, path) for name, path in source.inputs.items()}})
    if not (_WILDCARDS.search(raw) or _WILDCARDS.search(labels)):
        for name, path in source.inputs.items():
            if _WILDCARDS.search(path):
                raise ConfigError(f"{field}.inputs.{name}: {path} has wildcards, and the labels have none to fill them")
        return [source.model_copy(update={"raw": raw, "labels": labels})]
    for name, pattern in (("raw", raw), ("labels", labels)):
        if _WILDCARDS.search(pattern) and local_path(pattern) is None:
            raise ConfigError(f"{field}.{name}: a URL cannot have wildcards, as what lies there cannot be listed")
    raws, crops = (_glob(path, f"{field}.{name}") for name, path in (("raw", raw), ("labels", labels)))
    if len(raws) == 1:
        pairs = [(raws[0], crop) for crop in crops]
    elif len(crops) == 1:
        raise ConfigError(f"{field}.raw: {raw} matches {len(raws)} volumes, and the labels {labels} are of one")
    else:
        pairs = [(_filled(raw, _texts(labels, crop), f"{field}.raw", crop), crop) for crop in crops]
    found = []
    for one, crop in pairs:
        texts = _texts(labels, crop)
        inputs = {name: _filled(path, texts, f"{field}.inputs.{name}", crop) for name, path in source.inputs.items()}
        found.append(source.model_copy(update={"raw": one, "labels": crop, "inputs": inputs}))
    return found


def _glob(pattern: str, field: str) -> list[str]:
    if not _WILDCARDS.search(pattern):
        return [pattern]
    found = _sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_dir())
    if not found:
        fixed = Path(pattern[: next(_WILDCARDS.finditer(pattern)).start()] + "_").parent
        there = ", ".join(multiscale_groups(fixed)[:9]) if find_node(str(fixed)) is not None else ""
        raise ConfigError(f"{field}: nothing matches {pattern}; below {fixed} there are: {there or 'no volumes'}")
    return found


def _texts(pattern: str, path: str) -> list[str]:
    """Return the texts that the wildcards of a pattern stand for in a path."""
    regex, last = "", 0
    for wildcard in _WILDCARDS.finditer(pattern):
        text = {"**": "(.*)", "*": "([^/]*)", "?": "([^/])"}.get(wildcard.group(), f"({wildcard.group()})")
        regex += re.escape(pattern[last : wildcard.start()]) + text
        last = wildcard.end()
    match = re.fullmatch(regex + re.escape(pattern[last:]), path)
    return [] if match is None else list(match.groups())


def _filled(pattern: str, texts: Sequence[str], field: str, crop: str) -> str:
    """Return a pattern with each wildcard replaced by the text that stands for it."""
    rest = iter(texts)
    path = _WILDCARDS.sub(lambda wildcard: next(rest, wildcard.group()), pattern)
    if find_node(path) is None:
        raise ConfigError(f"{field}: the labels {crop} go with the volume {path}, and there is none")
    return path


def _whole(folder: StrPath, path: str) -> str:
    """Return a path as it is if it is whole, else within a folder."""
    return path if "://" in path else join(folder, path)


def _sorted(paths: Iterator[str] | Sequence[str]) -> list[str]:
    """Return paths in the order of their numbers: crop2 before crop10."""
    return sorted(
        paths, key=lambda path: [(int(p), "") if p.isdecimal() else (-1, p) for p in re.split(r"(\d+)", path)]
    )


def _short_names(paths: Sequence[str]) -> list[str]:
    """Return the shortest ends of paths that tell them apart."""
    parts = {path: tuple(part for part in path.rstrip("/").split("/") if part) for path in paths}
    counts = Counter(own[-n:] for own in set(parts.values()) for n in range(1, len(own) + 1))
    names, seen = [], Counter[str]()
    for path in paths:
        own = parts[path]
        length = next((n for n in range(1, len(own)) if counts[own[-n:]] == 1), len(own))
        name = "/".join(own[-length:])
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names
