"""The JSON schema of run files, and the tables of their fields for the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.config.yaml_files import to_yaml

__all__ = ["reference_text", "schema_text"]

_HEAD = """# The run file

One YAML file describes a run from training to evaluation. `scalenet-gp config show run.yaml` prints one with all
defaults. Lengths are nanometres per spatial axis
(z, y, x), exact: 4.6 is 23/5, and `"32/3"` can be written too. Positions count from the corner of the raw volume.

`--set key.path=value` on the command line replaces a value: `--set training.seed=3`, or for an entry of a list `--set
augmentation.2.sigma=0.1`.

Editors complete and check run files by their JSON schema. Write it with `scalenet-gp schema --output run.schema.json`,
and name it in the first line of the file:

```yaml
# yaml-language-server: $schema=run.schema.json
version: 1
```
"""
_ROLE = re.compile(r":\w+:`[~.]*(?:[\w.]*\.)?(\w+)`")


def schema() -> dict[str, Any]:
    """Return the JSON schema of run files; descriptions are those of the docstrings."""
    made = Config.model_json_schema()
    made["required"] = ["version", *made["required"]]  # in Python alone the version goes without saying
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "Run file of scalenet-gp"}


def schema_text() -> str:
    """Return the JSON schema of run files as text."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def reference_text() -> str:
    """Return the tables of all fields of run files, as MyST Markdown."""
    whole = schema()
    parts = [_HEAD, _table(whole)]
    for name, part in _in_order(whole).items():
        title = f"\n({_label(name)})=\n## {_title(part, name)}\n"
        parts.append(f"{title}\n{_plain(part.get('description', ''))}\n\n{_table(part)}")
    text = "\n".join(parts).rstrip() + "\n"
    for name, part in whole["$defs"].items():
        kind = part.get("properties", {}).get("kind", {}).get("const")
        text = text.replace(f"[{name}](", f"[`{kind}`](") if kind else text
    return text


def _label(name: str) -> str:
    """Return the label of a model's section; no other heading has such a one."""
    return f"run-file-{name.lower()}"


def _in_order(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the models of the schema in the order in which the file's fields lead to them."""
    found: dict[str, Any] = {}

    def visit(part: Any) -> None:
        for name in _references(part):
            if name not in found and "properties" in schema["$defs"][name]:
                found[name] = schema["$defs"][name]
                visit(schema["$defs"][name]["properties"])

    visit(schema["properties"])
    return found


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]
        for key, value in part.items():
            if key != "mapping":  # of a discriminator, which repeats the references
                yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _title(part: Mapping[str, Any], name: str) -> str:
    kind = part.get("properties", {}).get("kind", {}).get("const")
    return f"`kind: {kind}`" if kind else name


def _table(part: Mapping[str, Any]) -> str:
    needed = part.get("required", ())
    lines = ["| field | value | default | |", "|---|---|---|---|"]
    for name, field in part.get("properties", {}).items():
        default = "needed" if name in needed else _default(field)
        cells = (f"`{name}`", _kind(field), default, _plain(field.get("description", "")))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(field: Mapping[str, Any]) -> str:
    if "default" not in field:
        return ""
    return "none" if field["default"] is None else f"`{to_yaml(field['default'])}`"


def _kind(field: Mapping[str, Any]) -> str:
    """Return the type of a field in words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{_label(name)})"
    for several in ("oneOf", "anyOf"):
        if several in field:
            kinds = dict.fromkeys(_kind(choice) for choice in field[several] if choice.get("type") != "null")
            return " or ".join("length" if kind == "text" and "number" in kinds else kind for kind in kinds)
    if "const" in field:
        return f"`{to_yaml(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{to_yaml(value)}`" for value in field["enum"])
    if field.get("type") == "array":
        if "prefixItems" in field:
            return f"[{', '.join(_kind(item) for item in field['prefixItems'])}]"
        return f"list of {_kind(field.get('items', {}))}"
    if field.get("type") == "object":
        below = field.get("additionalProperties")
        return f"mapping of names to {_kind(below)}" if isinstance(below, Mapping) else "mapping"
    words = {"integer": "whole number", "string": "text", "boolean": "`true`, `false`", "null": "none"}
    return words.get(field.get("type", ""), field.get("type", "any value")) + _bounds(field)


def _bounds(field: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {field[name]:g}" for name, sign in signs.items() if name in field]
    return f" {', '.join(bounds)}" if bounds else ""


def _plain(text: str) -> str:
    return _ROLE.sub(r"`\1`", text).replace("``", "`")
