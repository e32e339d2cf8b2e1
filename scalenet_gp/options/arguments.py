"""Arguments: as JSON can hold them, and of the types that are named where they are taken."""

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

__all__ = ["coerce_arguments", "to_json_value"]


def to_json_value(argument: Any) -> Any:
    """An argument as JSON can hold it: numpy's numbers and arrays become Python's, sequences become lists.

    What cannot be held stays as it is. A set is such, as its order would differ from run to run.
    """
    if isinstance(argument, np.floating):
        return float(str(argument))  # the decimal that it prints as, and not what a narrower type makes of that
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
    """``arguments`` as the annotations of ``takes`` say: each what JSON makes of it, or what it is where JSON cannot.

    So what is given at first and what is read from a file later arrive as one and the same. Nothing is converted that
    is of another type: 1 is no ``bool``, 2.0 no ``int`` and ``"2"`` neither. An argument without annotation, or with
    one that cannot be resolved or is of a class that JSON knows nothing of, can be anything, and stays as
    :func:`to_json_value` makes it: a list for an array, a string for a fraction, as from a file.

    Args:
        takes: a function or a dataclass.
        arguments: by name, each as :func:`to_json_value` makes it.

    Raises:
        ValueError: some are of another type; the message says for each its name, its value and what is right.
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
    """What each argument may be, where its annotation tells."""
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
    """What is wrong with an argument, or with the first item of it that is."""
    problem = error.errors(include_url=False)[0]
    place = "".join(f"[{index}]" for index in problem["loc"] if isinstance(index, int))
    message = problem["msg"].removeprefix("Value error, ").replace("valid array", "valid list")
    return f"{name}{place} is {problem['input']!r}: {message.replace('valid object', 'valid mapping')}"
