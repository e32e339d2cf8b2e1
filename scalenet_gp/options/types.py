"""Types of option fields: checked when they are read, and the same in YAML.

Lengths are nanometres per spatial axis (z, y, x), exact: 4.6 is 23/5. Positions count from the corner of the raw
volume, so that a volume's first section begins at 0 whatever position its file states.
"""

from __future__ import annotations

from fractions import Fraction
from math import isfinite
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PositiveFloat,
    WithJsonSchema,
)

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import exact

__all__ = [
    "Bound",
    "Factor",
    "Interval",
    "IntervalPerAxis",
    "Length",
    "Precision",
    "Probability",
    "Size",
    "Whole",
    "to_yaml_length",
]


def _exact_or_none(length: Any) -> Fraction | None:
    return None if length is None else exact(length)


def to_yaml_length(length: Fraction | None) -> int | float | str | None:
    """Return a length (nm) as YAML holds it; :func:`.exact` reads back the same length."""
    if length is None:
        return None
    if length.denominator == 1:
        return int(length)
    return float(length) if exact(float(length)) == length else str(length)


def _as_intervals(bounds: Any) -> Any:
    """One pair for all axes is a list of one pair."""
    alone = isinstance(bounds, (list, tuple)) and not any(isinstance(bound, (list, tuple)) for bound in bounds)
    return (bounds,) if alone else bounds


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if not (isfinite(low) and isfinite(high) and low <= high):
        raise ConfigError(f"the lower bound comes first and both are finite; {low:g} to {high:g} are not so")
    return bounds


T = TypeVar("T")
_LENGTH = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^-?[0-9.]+(/[0-9]+)?$"}]}
_BOUND = {"anyOf": [*_LENGTH["anyOf"], {"type": "null"}]}
Length = Annotated[Fraction, BeforeValidator(exact), PlainSerializer(to_yaml_length), WithJsonSchema(_LENGTH)]
Bound = Annotated[
    Fraction | None, BeforeValidator(_exact_or_none), PlainSerializer(to_yaml_length), WithJsonSchema(_BOUND)
]
Size = tuple[Length, ...]
Whole = Annotated[int, Field(ge=1, strict=True)]
Factor = tuple[Whole, ...]
Interval = Annotated[tuple[T, T], AfterValidator(_ascending)]
IntervalPerAxis = Annotated[tuple[Interval[PositiveFloat], ...], BeforeValidator(_as_intervals), Field(min_length=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["float32", "bfloat16", "float16"]
"""The type that convolutions and matrix products compute in; weights and losses are float32."""
