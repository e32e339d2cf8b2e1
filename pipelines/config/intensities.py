"""The field ``intensities`` of raw data: the window of stored values that a network sees."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from scalenet_gp.errors import ConfigError

__all__ = ["Intensities"]


def _check(value: Any) -> Any:
    if value in ("auto", "range"):
        return value
    try:
        low, high = (float(bound) for bound in value)
    except (TypeError, ValueError):
        raise ConfigError(
            "intensities are auto, range, or two stored values, the darkest and the brightest: [52, 200]"
        ) from None
    if not (isfinite(low) and isfinite(high) and low < high):
        raise ConfigError(f"intensities go up; {low:g} to {high:g} do not")
    return low, high


_BOUND = {"type": "number"}

Intensities = Annotated[
    Literal["auto", "range"] | tuple[float, float],
    BeforeValidator(_check),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": ["auto", "range"]},
                {"type": "array", "prefixItems": [_BOUND, _BOUND], "minItems": 2, "maxItems": 2},
            ]
        }
    ),
]
"""The stored values that a network sees as -1 and 1.

Two values; ``range`` for the whole range of an integer type, 0 to 1 for floats; or ``auto`` for percentiles of sampled
tissue, which a run keeps.
"""
