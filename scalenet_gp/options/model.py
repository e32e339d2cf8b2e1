"""The base of all options: frozen models whose fields are described once, in the docstring."""

from __future__ import annotations

import inspect
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from scalenet_gp.errors import ArgumentError
from scalenet_gp.options.docstrings import field_descriptions
from scalenet_gp.options.problems import describe_problems, suggest

__all__ = ["Options"]


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
    def create(cls, **arguments: Any) -> Self:
        """Return the options with these ``arguments``, as Python's builders take them.

        Raises:
            ArgumentError: some are missing, of another type or out of their range, or contradict each other; the
                message says for each its name, its value and what would be right.
            TypeError: an argument does not exist.
        """
        unknown = [name for name in arguments if name not in cls.model_fields]
        if unknown:
            raise TypeError(f"there is no argument {unknown[0]!r}; {suggest(unknown[0], list(cls.model_fields))}")
        try:
            return cls.model_validate(arguments)
        except ValidationError as error:
            text = "; ".join(describe_problems(error, cls, arguments, ""))
            of_parts = [problem for problem in error.errors() if problem["type"] == "unknown_argument"]
            raise (TypeError(text) if of_parts else ArgumentError(text)) from error

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        resolved = handler.resolve_ref_schema(schema)
        resolved["description"] = (inspect.getdoc(cls) or "").partition("\n")[0]
        for name, text in field_descriptions(cls).items():
            if name in resolved.get("properties", {}):
                resolved["properties"][name]["description"] = text
        return schema
