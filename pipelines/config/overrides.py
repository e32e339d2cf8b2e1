"""Values of the command line that replace those of a run file: ``prediction.stored=uint8``."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import yaml

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.config.yaml_files import parse_yaml

__all__ = ["apply_overrides", "name_sources"]


def apply_overrides(data: Any, overrides: Iterable[str]) -> Any:
    """Return plain settings with some values replaced.

    Sections that are absent are made; whether a field exists is for validation to say.

    Args:
        data: settings as they are read from YAML.
        overrides: each as ``key.path=value``, the value in YAML; an entry of a list is named by its number, as in
            ``augmentation.0.sigma=0.1``.

    Raises:
        ConfigError: an override has another form, or leads through something that is not a mapping or list.

    Example:
        >>> apply_overrides({"training": {"seed": 0}}, ["training.seed=3", "prediction.stored=uint8"])
        {'training': {'seed': 3}, 'prediction': {'stored': 'uint8'}}
    """
    changed = deepcopy(data)
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"--set takes key.path=value, as in training.seed=3, not {override!r}")
        try:
            value = parse_yaml(text)
        except yaml.YAMLError as error:
            reason = getattr(error, "problem", None) or error
            raise ConfigError(f"--set {path}: the value {text!r} is not YAML: {reason}") from error
        place = changed
        for number, key in enumerate(keys[:-1]):
            place = _enter(place, key, ".".join(keys[:number]), override)
        _put(place, keys[-1], value, ".".join(keys[:-1]), override)
    return changed


def name_sources(problems: Iterable[str], path: str, overrides: Iterable[str]) -> list[str]:
    """Return problems of settings, each run of one source behind its name: the file, or the override.

    Args:
        problems: each begins with the dotted name of its field, as :func:`scalenet_gp.options.describe_problems` writes
            it.
        path: the file that the settings are read from.
        overrides: see :func:`apply_overrides`.

    Example:
        >>> name_sources(["training.seed is -3: it has to be at least 0"], "run.yaml", ["training.seed=-3"])
        ['--set training.seed=-3: training.seed is -3: it has to be at least 0']
    """
    named, before = [], None
    for problem in problems:
        field = problem.removeprefix("there is no field ").split(" ")[0].rstrip(":;,")
        source = path
        for override in overrides:
            key = override.partition("=")[0].strip()
            if f"{field}.".startswith(f"{key}."):
                source = f"--set {override}"
            elif f"{key}.".startswith(f"{field}."):  # the file may have its share in it
                source = f"{path}, with --set {override}"
        named.append(problem if source == before else f"{source}: {problem}")
        before = source
    return named


def _enter(place: Any, key: str, name: str, override: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, key, name, override)]
    if not isinstance(place, dict):
        raise ConfigError(f"--set {override}: {name or 'the config'} is {place!r}, which has no fields")
    if place.get(key) is None:
        place[key] = {}
    return place[key]


def _put(place: Any, key: str, value: Any, name: str, override: str) -> None:
    if isinstance(place, list):
        place[_index(place, key, name, override)] = value
    elif isinstance(place, dict):
        place[key] = value
    else:
        raise ConfigError(f"--set {override}: {name or 'the config'} is {place!r}, which has no fields")


def _index(place: list[Any], key: str, name: str, override: str) -> int:
    if not key.isdecimal() or int(key) >= len(place):
        last = f"numbers from 0 to {len(place) - 1}" if len(place) > 1 else "the number 0"
        entries = f"{len(place)} entries, {last}" if len(place) != 1 else f"one entry, {last}"
        raise ConfigError(
            f"--set {override}: {name} is a list of {entries if place else 'no entries'}; {key!r} is not one of them"
        )
    return int(key)
