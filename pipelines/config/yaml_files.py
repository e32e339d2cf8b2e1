"""YAML as run files are written in it: errors tell the line, and 1e-3 is a number."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from scalenet_gp.errors import ConfigError

__all__ = ["dump_yaml", "load_yaml", "parse_yaml", "to_yaml"]


class _Loader(yaml.SafeLoader):
    """Refuses a name that a mapping has twice, and reads 1e-3 as a number, as YAML 1.2 does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a name has to be a text", problem_mark=key.start_mark)
            if key.value in names:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands there twice", problem_mark=key.start_mark)
            names.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes a text that the loader would read as a number, such as "7e12"."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def load_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        FileNotFoundError: the file does not exist.
        ConfigError: it is not YAML; the message says at which line and column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no config {path}")
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        reason = " ".join(part for part in (error.problem, error.context) if part)
        raise ConfigError(f"{path}{place}: this is not YAML: {reason}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is not YAML: {error}") from error


def parse_yaml(text: str) -> Any:
    """Return the value of a text in YAML.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    return yaml.load(text, _Loader)


def dump_yaml(value: Any, **options: Any) -> str:
    """Return a plain value as a document of YAML that :func:`parse_yaml` reads back; options are those of PyYAML."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, **options)
    return text


def to_yaml(value: Any) -> str:
    """Return a plain value in a line of YAML."""
    text = dump_yaml(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
