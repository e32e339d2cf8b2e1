"""Shares of classes in the samples, and their weights in the loss, by their fractions of the annotation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

__all__ = ["class_shares", "class_weights"]

_LEAST_FRACTION = 1e-3
"""Fraction below which a class counts as no rarer: a few voxels teach no more if they are seen more often."""


def class_shares(fractions: Mapping[str, float], total: Fraction) -> dict[str, float]:
    """Return the share of the samples to lay on each class: in inverse proportion to the root of its fraction.

    They are thousandths, and ``total`` in sum. A class of which there is nothing gets none.

    Example:
        >>> class_shares({"mito": 0.16, "er": 0.01}, Fraction(1, 2))
        {'mito': 0.1, 'er': 0.4}
    """
    wanted = _rarity(fractions, 1 / 2)
    scale = 1000 * total / math.fsum(wanted.values())
    thousandths = {name: math.floor(weight * scale) for name, weight in wanted.items()}
    missing = int(1000 * total) - sum(thousandths.values())
    by_rest = sorted(wanted, key=lambda name: (thousandths[name] - wanted[name] * scale, name))
    for name in by_rest[:missing]:
        thousandths[name] += 1
    return {name: count / 1000 for name, count in thousandths.items()}


def class_weights(fractions: Mapping[str, float]) -> dict[str, float]:
    """Return the weight of each class in the loss: in inverse proportion to the fourth root of its fraction.

    They are 1 on average. Rare classes are seen more often already, so weights differ less than shares of the samples.

    Example:
        >>> class_weights({"mito": 0.16, "er": 0.01})
        {'mito': 0.67, 'er': 1.33}
    """
    wanted = _rarity(fractions, 1 / 4)
    mean = math.fsum(wanted.values()) / len(wanted)
    return {name: round(weight / mean, 2) for name, weight in wanted.items()}


def _rarity(fractions: Mapping[str, float], power: float) -> dict[str, float]:
    return {name: max(one, _LEAST_FRACTION) ** -power for name, one in fractions.items() if one > 0}
