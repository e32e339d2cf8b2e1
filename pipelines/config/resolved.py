"""A run file as it is understood: every field, those marked that have their default."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from scalenet_gp.pipelines.config.yaml_files import to_yaml

__all__ = ["resolved_yaml"]

_MARK = "  # default"


def resolved_yaml(config: BaseModel) -> str:
    """Return the config as YAML; a comment marks each line whose value the run file does not say.

    Example:
        >>> from scalenet_gp.pipelines.config import Region
        >>> print(resolved_yaml(Region(begin=(0, 0), end=(8, None))), end="")
        begin: [0, 0]
        end: [8, null]
    """
    return "\n".join(_fields(config, config.model_dump(mode="json"), "", defaulted=False)) + "\n"


def _fields(model: BaseModel, plain: dict[str, Any], indent: str, *, defaulted: bool) -> list[str]:
    lines: list[str] = []
    for name in sorted(type(model).model_fields, key="kind".__ne__):  # the kind first, then as declared
        is_default = defaulted or (name not in model.model_fields_set and name != "kind")
        lines += _entry(f"{indent}{name}:", getattr(model, name), plain[name], indent, defaulted=is_default)
    return lines


def _entry(head: str, value: Any, plain: Any, indent: str, *, defaulted: bool) -> list[str]:
    mark = _MARK if defaulted else ""
    if isinstance(value, BaseModel):
        return [f"{head}{mark}", *_fields(value, plain, f"{indent}  ", defaulted=defaulted)]
    if isinstance(value, tuple) and any(isinstance(entry, BaseModel) for entry in value):
        lines = [f"{head}{mark}"]
        for entry, below in zip(value, plain, strict=True):
            if isinstance(entry, BaseModel):
                first, *rest = _fields(entry, below, f"{indent}  ", defaulted=defaulted)
                lines += [f"{indent}- {first.lstrip()}", *rest]
            else:
                lines.append(f"{indent}- {to_yaml(below)}")
        return lines
    if isinstance(value, dict) and any(isinstance(entry, BaseModel) for entry in value.values()):
        lines = [f"{head}{mark}"]
        for name, entry in value.items():
            lines += _entry(f"{indent}  {to_yaml(name)}:", entry, plain[name], f"{indent}  ", defaulted=defaulted)
        return lines
    return [f"{head} {to_yaml(plain)}{mark}"]
