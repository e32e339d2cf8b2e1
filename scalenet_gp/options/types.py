"""Types of option fields: checked when they are read, and the same in YAML.

Lengths are nanometres per spatial axis (z, y, x), exact: 4.6 is 23/5. Positions count from the corner of the raw
volume, so that a volume's first section begins at 0 whatever position its file states.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import exact

__all__ = [
    "Bound",
    "Factor",
    "Length",
    "Precision",
    "Probability",
    "Shape",
    "Size",
    "Whole",
    "to_yaml_length",
]


def _exact_or_none(length: Any) -> Fraction | None:
    return None if length is None else exact(length)


def _above_zero(size: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    if not size or min(size) <= 0:
        raise ArgumentError("it has a length above 0 for every axis")
    return size


def to_yaml_length(length: Fraction | None) -> int | float | str | None:
    """Return a length (nm) as YAML holds it; :func:`.exact` reads back the same length."""
    if length is None:
        return None
    if length.denominator == 1:
        return int(length)
    return float(length) if exact(float(length)) == length else str(length)


_LENGTH = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^-?[0-9.]+(/[0-9]+)?$"}]}
_BOUND = {"anyOf": [*_LENGTH["anyOf"], {"type": "null"}]}
Length = Annotated[Fraction, BeforeValidator(exact), PlainSerializer(to_yaml_length), WithJsonSchema(_LENGTH)]
Bound = Annotated[
    Fraction | None, BeforeValidator(_exact_or_none), PlainSerializer(to_yaml_length), WithJsonSchema(_BOUND)
]
Size = tuple[Length, ...]
Shape = Annotated[Size, AfterValidator(_above_zero)]
Whole = Annotated[int, Field(ge=1, strict=True)]
Factor = tuple[Whole, ...]
Probability = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["float32", "bfloat16", "float16"]
"""The type that convolutions and matrix products compute in; weights and losses are float32."""
