"""Confusion counts of a prediction against the annotation, and the scores that follow from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

__all__ = [
    "ConfusionCounts",
    "Scores",
    "empty_scores",
    "mean_scores",
    "scores_from_json",
    "scores_to_json",
    "update_scores",
]


@dataclass(frozen=True, slots=True)
class ConfusionCounts:
    """Counts of annotated voxels of one class, and the scores that follow from them.

    Attributes:
        true_positive: voxels of the class that are predicted.
        false_positive: predicted voxels of other classes.
        false_negative: voxels of the class that are not predicted.

    Example:
        >>> ConfusionCounts(true_positive=6, false_positive=2, false_negative=2).scores["dice"]
        0.75
    """

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    @classmethod
    def count(cls, predicted: np.ndarray, true: np.ndarray, annotated: np.ndarray) -> ConfusionCounts:
        """Return the counts of two boolean arrays where a third one is true."""
        return cls(
            int((predicted & true & annotated).sum()),
            int((predicted & ~true & annotated).sum()),
            int((~predicted & true & annotated).sum()),
        )

    def __add__(self, other: ConfusionCounts) -> ConfusionCounts:
        return ConfusionCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )

    @property
    def scores(self) -> dict[str, float]:
        """Dice coefficient, intersection over union, precision and recall; NaN where they are not defined."""
        hit, extra, missed = self.true_positive, self.false_positive, self.false_negative
        return {
            "dice": _ratio(2 * hit, 2 * hit + extra + missed),
            "iou": _ratio(hit, hit + extra + missed),
            "precision": _ratio(hit, hit + extra),
            "recall": _ratio(hit, hit + missed),
        }


Scores = dict[str, dict[str, ConfusionCounts]]
"""The confusion counts of each class, for each output of the network."""


def empty_scores(classes: Mapping[str, Iterable[str]]) -> Scores:
    """Return counts of zero, for :func:`update_scores` to add to.

    Args:
        classes: the names of the classes of each output.
    """
    return {output: dict.fromkeys(names, ConfusionCounts()) for output, names in classes.items()}


def update_scores(
    scores: Scores,
    output: str,
    prediction: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray,
    threshold: float | Mapping[str, float],
) -> None:
    """Add the counts of one block of one output.

    Args:
        scores: the counts so far, changed in place.
        output: name of the output.
        prediction: probabilities, (class, Z, Y, X), the classes in the order of ``scores``.
        target: above 0 where a voxel is of the class, in the same shape.
        mask: above 0 where the class is annotated, in the same shape.
        threshold: the probability from which a voxel counts as predicted; or that of each class, by name.
    """
    for label, predicted, true, annotated in zip(scores[output], prediction, target, mask, strict=True):
        limit = threshold[label] if isinstance(threshold, Mapping) else threshold
        scores[output][label] += ConfusionCounts.count(predicted >= limit, true > 0, annotated > 0)


def mean_scores(classes: Mapping[str, ConfusionCounts]) -> dict[str, float]:
    """Return the mean of each score over the classes for which it is defined; NaN if there are none."""
    names = ConfusionCounts().scores
    of_classes = [counts.scores for counts in classes.values()]
    defined = {name: [scores[name] for scores in of_classes if not math.isnan(scores[name])] for name in names}
    return {name: sum(values) / len(values) if values else math.nan for name, values in defined.items()}


def scores_to_json(scores: Scores) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return counts and scores as JSON can hold them, with null for scores that are not defined."""
    return {
        name: {
            label: asdict(counts) | {key: None if math.isnan(score) else score for key, score in counts.scores.items()}
            for label, counts in classes.items()
        }
        for name, classes in scores.items()
    }


def scores_from_json(plain: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Scores:
    """Return the counts that :func:`scores_to_json` was given.

    Raises:
        KeyError: a count is missing.
    """
    return {
        name: {
            label: ConfusionCounts(**{count.name: values[count.name] for count in fields(ConfusionCounts)})
            for label, values in classes.items()
        }
        for name, classes in plain.items()
    }


def _ratio(above: int, below: int) -> float:
    return above / below if below else math.nan
