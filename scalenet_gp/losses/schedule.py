"""Weights of losses that change in the course of training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, NonNegativeFloat

from scalenet_gp.errors import ArgumentError
from scalenet_gp.options import Options

__all__ = ["WeightAt", "WeightOptions", "weight_function"]


class WeightAt(Options):
    """The weight of a loss at one iteration; between two, it changes evenly.

    Attributes:
        iteration: the iteration from which the weight counts.
        weight: the weight.

    Example:
        >>> WeightAt(iteration=1000, weight=0.5).weight
        0.5
    """

    iteration: int = Field(ge=0)
    weight: NonNegativeFloat


def _in_order(weight: float | tuple[WeightAt, ...]) -> float | tuple[WeightAt, ...]:
    if isinstance(weight, tuple):
        times = [entry.iteration for entry in weight]
        if not times or times != sorted(set(times)):
            raise ArgumentError(f"the weights are given for the iterations {times}; write one or more, in order")
    return weight


WeightOptions = Annotated[NonNegativeFloat | tuple[WeightAt, ...], AfterValidator(_in_order)]
"""The weight of a loss: a number, or a list of weights at iterations."""


def weight_function(weight: float | tuple[WeightAt, ...]) -> float | Callable[[int], float]:
    """Return a weight, or the function that returns it for an iteration.

    Example:
        >>> rising = weight_function((WeightAt(iteration=0, weight=0), WeightAt(iteration=100, weight=1)))
        >>> float(rising(25)), float(rising(1000))
        (0.25, 1.0)
    """
    if not isinstance(weight, tuple):
        return weight
    return partial(np.interp, xp=[entry.iteration for entry in weight], fp=[entry.weight for entry in weight])
