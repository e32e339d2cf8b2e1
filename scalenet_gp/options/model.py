"""The base of all options: frozen models whose fields are described once, in the docstring."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self, dataclass_transform

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, PrivateAttr, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from scalenet_gp.errors import ArgumentError
from scalenet_gp.options.docstrings import field_descriptions
from scalenet_gp.options.problems import describe_problems, suggest

__all__ = ["Options"]

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass  # pydantic has no public name for it
else:
    ModelMetaclass = type(BaseModel)


@dataclass_transform(kw_only_default=True, field_specifiers=(Field, PrivateAttr))
class _ReadableErrors(ModelMetaclass):
    """Let constructors report problems as run files do. Models within models are read without this."""

    def __call__(cls, *args: Any, **arguments: Any) -> Any:
        try:
            return super().__call__(*args, **arguments)
        except ValidationError as error:
            raise ArgumentError(f"{cls.__name__}: {_problems_in_words(error, cls, arguments)}") from error


class Options(BaseModel, metaclass=_ReadableErrors):
    """Abstract: options of one component. Unknown fields are errors, and nothing changes after it was checked.

    A subclass describes its fields in the ``Attributes:`` section of its docstring; JSON schemas and the tables of the
    documentation take the descriptions from there.

    Raises:
        ArgumentError: a field is unknown, missing, of another type or out of its range, or fields contradict each
            other. The message names the model and, for each field, its value and what would be right.

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
            text = _problems_in_words(error, cls, arguments)
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


def _problems_in_words(error: ValidationError, model: Any, arguments: Mapping[str, Any]) -> str:
    return "; ".join(describe_problems(error, model, arguments, ""))
