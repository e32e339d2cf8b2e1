"""The base of all options: frozen models whose fields are described once, in the docstring."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

__all__ = ["Options", "field_descriptions"]

_ENTRY = re.compile(r"^(?P<indent> +)\*{0,2}(?P<name>\w+)(?: \([^)]*\))?: (?P<text>.+)$")


class Options(BaseModel):
    """Abstract: options of one component. Unknown fields are errors, and nothing changes after it was checked.

    A subclass describes its fields in the ``Attributes:`` section of its docstring; JSON schemas and the tables of the
    documentation take the descriptions from there.

    Example:
        >>> class Blur(Options):
        ...     sigma: float = 1.0
        >>> Blur(sigma=2).sigma
        2.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        resolved = handler.resolve_ref_schema(schema)
        resolved["description"] = (inspect.getdoc(cls) or "").partition("\n")[0]
        for name, text in field_descriptions(cls).items():
            if name in resolved.get("properties", {}):
                resolved["properties"][name]["description"] = text
        return schema


def field_descriptions(component: type[Any]) -> dict[str, str]:
    """Return what the ``Attributes:`` and ``Args:`` sections of docstrings say of each name, base classes included."""
    described: dict[str, str] = {}
    for cls in reversed(component.__mro__):
        described |= _sections(inspect.cleandoc(cls.__doc__ or ""))
    return described


def _sections(docstring: str) -> dict[str, str]:
    described: dict[str, str] = {}
    within, name, indent = False, "", 0
    for line in docstring.splitlines():
        if line in ("Args:", "Attributes:"):
            within, name = True, ""
        elif line and not line.startswith(" "):
            within = False
        elif within and (entry := _ENTRY.match(line)) and (not name or len(entry["indent"]) <= indent):
            name, indent = entry["name"], len(entry["indent"])
            described[name] = entry["text"]
        elif within and name and line.strip():
            described[name] += f" {line.strip()}"
    return described
