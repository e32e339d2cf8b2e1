"""Descriptions of fields, read from docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

__all__ = ["field_descriptions"]

_ENTRY = re.compile(r"^(?P<indent> +)\*{0,2}(?P<name>\w+)(?: \([^)]*\))?: (?P<text>.+)$")


def field_descriptions(component: type[Any]) -> dict[str, str]:
    """Return the descriptions in the ``Attributes:`` and ``Args:`` sections by name, those of base classes included.

    Example:
        >>> from scalenet_gp.options import Probability, Options
        >>> class Dropout(Options):
        ...     '''Dropout.
        ...
        ...     Attributes:
        ...         probability: of a voxel to be zero.
        ...     '''
        ...     probability: Probability = 0.0
        >>> field_descriptions(Dropout)['probability']
        'of a voxel to be zero.'
    """
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
