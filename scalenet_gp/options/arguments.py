"""Arguments of constructors, as JSON holds them and as annotations name their types."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, KeysView, Mapping, Sequence, ValuesView
from contextlib import suppress
from fractions import Fraction
from functools import cache
from types import SimpleNamespace
from typing import Any, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from scalenet_gp.errors import ArgumentError
from scalenet_gp.options.problems import reword, show_value

__all__ = ["coerce_arguments", "to_json_value"]


def to_json_value(argument: Any) -> Any:
    """Return an argument as JSON holds it: numbers and arrays of numpy become Python's, sequences become lists.

    An argument that JSON cannot hold stays as it is. A set stays too, as its order would differ from run to run.

    Example:
        >>> to_json_value({"size": (4.6, Fraction(1, 3))})
        {'size': [4.6, '1/3']}
    """
    if isinstance(argument, np.floating):
        return float(str(argument))  # the decimal that it prints as
    if isinstance(argument, np.ndarray):
        return [to_json_value(value) for value in argument] if argument.ndim else to_json_value(argument[()])
    if isinstance(argument, np.generic):
        return argument.item()
    if isinstance(argument, Fraction):
        return str(argument)
    if isinstance(argument, Mapping):
        return {str(key): to_json_value(value) for key, value in argument.items()}
    if isinstance(argument, Sequence | KeysView | ValuesView) and not isinstance(argument, str | bytes | bytearray):
        return [to_json_value(value) for value in argument]
    return argument


def coerce_arguments(takes: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments in the types that the annotations of ``takes`` name.

    An argument given in Python and the same argument read from a file arrive as the same value. An argument of another
    type is refused, not converted: 1 is not a ``bool``; 2.0 and ``"2"`` are not ``int``. An argument whose annotation
    is absent, cannot be resolved, or names a class that JSON does not know can be anything. It stays as
    :func:`to_json_value` makes it: a list for an array, a string for a fraction.

    Args:
        takes: a function or a dataclass.
        arguments: the arguments by name, each as :func:`to_json_value` makes it.

    Raises:
        ArgumentError: some are of another type; the message gives for each its name, its value and the right type.

    Example:
        >>> def crop(shape: tuple[int, ...]) -> None: ...
        >>> coerce_arguments(crop, {"shape": [8, 8]})
        {'shape': (8, 8)}
    """
    made, wrong = dict(arguments), []
    accepted = _accepted(takes)
    for name in arguments.keys() & accepted.keys():
        try:
            made[name] = _read(accepted[name], arguments[name])
        except ValidationError as error:
            wrong.append(_in_words(name, error))
    if wrong:
        raise ArgumentError("; ".join(sorted(wrong)))
    return made


@cache
def _accepted(takes: Callable[..., Any]) -> dict[str, TypeAdapter[Any]]:
    """Return the type of each argument whose annotation tells it."""
    accepted = {}
    names = takes.__globals__ if hasattr(takes, "__globals__") else vars(sys.modules[takes.__module__])
    for name, annotation in takes.__annotations__.items():
        alone = SimpleNamespace(__annotations__={name: annotation})
        try:
            (resolved,) = get_type_hints(alone, globalns=names, include_extras=True).values()
        except Exception:  # what only type checkers know, or no type at all: an annotation can be anything
            continue
        with suppress(PydanticUserError):  # a class that JSON knows nothing of
            accepted[name] = TypeAdapter(resolved)
    return accepted


def _read(accepted: TypeAdapter[Any], argument: Any) -> Any:
    try:
        text = json.dumps(argument)
    except (TypeError, ValueError):  # JSON cannot hold it
        return accepted.validate_python(argument, strict=True)
    return accepted.validate_json(text, strict=True)


def _in_words(name: str, error: ValidationError) -> str:
    """Describe the problem of an argument, or of its first wrong item."""
    problem = error.errors(include_url=False)[0]
    place = "".join(f"[{index}]" for index in problem["loc"] if isinstance(index, int))
    return f"{name}{place} is {show_value(problem['input'])}: {reword(problem['msg'])}"
