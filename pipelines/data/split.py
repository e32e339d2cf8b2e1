"""The choice of sources to validate with."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.config import SplitConfig

__all__ = ["validated_units"]


def validated_units(units: Sequence[str], split: SplitConfig) -> set[str]:
    """Return the units to validate with.

    Units are taken in an order that depends on their names and the seed alone. With folds, each goes to the fold that
    has the fewest crops so far, so every unit is in one fold.

    Args:
        units: the unit of each crop: its raw volume, or its own name.
        split: the options.

    Raises:
        ConfigError: there are fewer units than folds, or only one.

    Example:
        >>> units = ["hela", "hela", "jurkat", "mouse", "fly"]
        >>> folds = [validated_units(units, SplitConfig(folds=4, fold=fold)) for fold in range(4)]
        >>> sorted(map(sorted, folds))
        [['fly'], ['hela'], ['jurkat'], ['mouse']]
    """
    sizes = Counter(units)
    order = sorted(sizes, key=lambda unit: hashlib.sha256(f"{split.seed} {unit}".encode()).digest())
    if len(order) < (split.folds or 2):
        raise ConfigError(
            f"data.split by {split.by} of {len(units)} sources has {len(order)} of them to tell apart; it needs at "
            f"least {split.folds or 2}, so choose fewer folds, or split by crop"
        )
    if split.folds is not None:
        folds: list[list[str]] = [[] for _ in range(split.folds)]
        for unit in order:
            min(folds, key=lambda fold: sum(sizes[one] for one in fold)).append(unit)
        return set(folds[split.fold])
    chosen: list[str] = []
    wanted = (split.share or 0) * len(units)
    for unit in order:
        count = sum(sizes[one] for one in chosen)
        # a unit more, where it comes nearer to the share
        if len(chosen) < len(order) - 1 and abs(count + sizes[unit] - wanted) < abs(count - wanted):
            chosen.append(unit)
    return set(chosen or [min(order, key=lambda unit: sizes[unit])])
