"""The rule of the challenge: its date, its classes and its constants."""

from __future__ import annotations

import math

__all__ = ["CELLMAP_RULE", "INSTANCE_CLASSES", "is_instance_class", "most_components"]

CELLMAP_RULE = "2026-06-30"
"""The date of the rule. Scores by another rule cannot be compared with scores by this one."""

INSTANCE_CLASSES = ("nuc", "vim", "ves", "endo", "lyso", "ld", "perox", "mito", "np", "mt", "cell", "instance")
"""The classes that are scored object by object. All others are scored voxel by voxel."""

MOST_PAIRS = 5_000_000
"""A crop with more overlapping pairs of objects is skipped."""

COST_SCALE = 1_000_000
"""The cost of a matched pair without overlap. A truth object that stays unmatched costs one more."""

DISTANCE_BASE = 1.01
"""A distance of d voxel diagonals scores this to the power of -d."""


def is_instance_class(label: str) -> bool:
    """Return True if a class is scored object by object.

    Example:
        >>> is_instance_class("mito"), is_instance_class("mito_mem")
        (True, False)
    """
    return label in INSTANCE_CLASSES


def most_components(largest_id: int) -> float:
    """Return the number of predicted components from which on a crop is skipped.

    Args:
        largest_id: the largest id of the truth, at least 1. It stands for the number of objects, also where ids have
            gaps.

    Example:
        >>> [round(most_components(largest_id)) for largest_id in (1, 5, 100)]
        [51, 142, 1000]
    """
    return largest_id * (10 + 50 * math.exp(-largest_id / 5))
