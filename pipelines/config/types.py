"""What the fields of a config are: checked when they are read, and the same in YAML.

Lengths are nanometres per spatial axis (z, y, x), exact: 4.6 is 23/5. Positions count from the corner of the raw
volume, so that a volume's first section begins at 0 whatever its file calls that place.
"""

from __future__ import annotations

from fractions import Fraction
from math import isfinite
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PositiveFloat,
    model_validator,
)

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import exact

__all__ = ["Bound", "Factor", "Interval", "IntervalPerAxis", "Length", "Probability", "Region", "Size", "Strict"]


def _exact_or_none(length: Any) -> Fraction | None:
    return None if length is None else exact(length)


def _plain(length: Fraction | None) -> int | float | str | None:
    """What YAML holds and :func:`exact` reads back as it was."""
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
Length = Annotated[Fraction, BeforeValidator(exact), PlainSerializer(_plain)]
Bound = Annotated[Fraction | None, BeforeValidator(_exact_or_none), PlainSerializer(_plain)]
Size = tuple[Length, ...]
Factor = tuple[Annotated[int, Field(ge=1)], ...]
Interval = Annotated[tuple[T, T], AfterValidator(_ascending)]
IntervalPerAxis = Annotated[tuple[Interval[PositiveFloat], ...], BeforeValidator(_as_intervals), Field(min_length=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Abstract: unknown fields are errors, and nothing changes after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Region(Strict):
    """A box, from ``begin`` to ``end`` in nm from the raw volume's corner; ``null`` is as far as the labels reach."""

    begin: tuple[Bound, ...]
    end: tuple[Bound, ...]

    def __str__(self) -> str:
        ends = ([_plain(bound) for bound in end] for end in (self.begin, self.end))
        begin, end = (", ".join("null" if bound is None else str(bound) for bound in end) for end in ends)
        return f"[{begin}] to [{end}] nm"

    @model_validator(mode="after")
    def _check(self) -> Region:
        if len(self.begin) != len(self.end):
            raise ConfigError(f"begin has {len(self.begin)} axes and end {len(self.end)}")
        for b, e in zip(self.begin, self.end, strict=True):
            if b is not None and e is not None and b >= e:
                raise ConfigError(f"a region ends after it begins; {_plain(b)} to {_plain(e)} nm does not")
        return self
