"""Paired comparisons of models with a reference: Wilcoxon's signed-rank test, with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalenet_gp.errors import ArgumentError

__all__ = ["Comparison", "compare_with_reference", "correct_by_holm"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of a model with the reference.

    Attributes:
        model: the model.
        pairs: number of pairs.
        difference: median of model - reference over the pairs; NaN without pairs.
        p_value: of the two-sided test, uncorrected; NaN if no pair differs.
        corrected: the same, corrected for the number of models.
        smallest: the smallest corrected value that so many pairs can have.

    Example:
        >>> Comparison("unet", pairs=3, difference=0.1, p_value=0.25, corrected=0.25, smallest=0.25).too_few
        True
    """

    model: str
    pairs: int
    difference: float
    p_value: float
    corrected: float
    smallest: float

    @property
    def too_few(self) -> bool:
        """True if so few pairs cannot have a corrected value below 0.05."""
        return self.smallest >= 0.05


def correct_by_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down procedure.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none is below one before it, nor above 1. NaN
    stays NaN, and does not count.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
    (1979).

    Raises:
        ArgumentError: a value is not in [0, 1].

    Example:
        >>> correct_by_holm([0.04, 0.01, 0.03])
        [0.06, 0.03, 0.06]
    """
    known = [index for index, value in enumerate(p_values) if not math.isnan(value)]
    if wrong := [p_values[index] for index in known if not 0 <= p_values[index] <= 1]:
        raise ArgumentError(f"a p-value is from 0 to 1, not {wrong[0]}")
    corrected = [math.nan] * len(p_values)
    least = 0.0
    for rank, index in enumerate(sorted(known, key=lambda index: p_values[index])):
        least = max(least, min(1.0, p_values[index] * (len(known) - rank)))
        corrected[index] = least
    return corrected


def compare_with_reference(values: Mapping[str, Mapping[Hashable, float]], reference: str) -> list[Comparison]:
    """Return the comparison of every other model with the reference, over the pairs that both have.

    Args:
        values: by model, the score of each thing that was measured, as data set and seed.
        reference: the model that the others are compared with.

    Raises:
        ArgumentError: there is no such model.

    Example:
        >>> scores = {"unet": {n: 0.1 * n for n in range(6)}, "fpn": {n: 0.1 * n + 0.01 * (n + 1) for n in range(6)}}
        >>> [found] = compare_with_reference(scores, "unet")
        >>> found.pairs, found.p_value, found.too_few
        (6, 0.03125, False)
    """
    from scipy.stats import wilcoxon

    if reference not in values:
        raise ArgumentError(f"the reference {reference!r} is not one of {', '.join(values)}")
    others = [model for model in values if model != reference]
    differences = []
    for model in others:
        pairs = [(score, values[reference].get(key, math.nan)) for key, score in values[model].items()]
        differences.append(np.array([a - b for a, b in pairs if not (math.isnan(a) or math.isnan(b))]))
    p_values = [float(wilcoxon(found).pvalue) if found.any() else math.nan for found in differences]
    tested = [len(found) for found in differences if found.any()]
    return [
        Comparison(
            model,
            len(found),
            float(np.median(found)) if len(found) else math.nan,
            p_value,
            corrected,
            # all differences of one sign, and every model that can have a smaller value has one
            min(1.0, 2.0 ** (1 - len(found)) * max(sum(n <= len(found) for n in tested), 1)) if len(found) else 1.0,
        )
        for model, found, p_value, corrected in zip(
            others, differences, p_values, correct_by_holm(p_values), strict=True
        )
    ]
