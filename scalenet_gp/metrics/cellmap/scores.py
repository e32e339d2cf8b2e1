"""Counts of semantic classes, and the scores of a whole submission."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scalenet_gp.errors import DataError
from scalenet_gp.metrics.cellmap.instances import InstanceCounts
from scalenet_gp.metrics.cellmap.rule import CELLMAP_RULE
from scalenet_gp.metrics.confusion import ConfusionCounts

__all__ = ["CellMapScores", "count_missing_semantic", "score_semantic"]


def score_semantic(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> ConfusionCounts:
    """Return the voxel counts of one crop of a semantic class; values above 0 are of the class.

    Args:
        prediction: values on the lattice of the truth, (z, y, x).
        truth: values, in the same shape.
        mask: above 0 where the truth is annotated, in the same shape; everywhere if None.

    Raises:
        DataError: shapes that differ.

    Example:
        >>> score_semantic(np.array([[[0, 1, 2]]]), np.array([[[0, 0, 1]]]))
        ConfusionCounts(true_positive=1, false_positive=1, false_negative=0)
    """
    if prediction.shape != truth.shape or (mask is not None and mask.shape != truth.shape):
        shapes = f"the prediction has the shape {prediction.shape}, the truth {truth.shape}"
        raise DataError(f"{shapes}{'' if mask is None else f', the mask {mask.shape}'}; they have to be the same")
    counts = ConfusionCounts()
    for index in range(len(truth)):  # plane by plane, for memory
        true = truth[index] > 0
        annotated = np.ones_like(true) if mask is None else mask[index] > 0
        counts += ConfusionCounts.count(prediction[index] > 0, true, annotated)
    return counts


def count_missing_semantic(truth: np.ndarray) -> ConfusionCounts:
    """Return the counts of a crop for which nothing was submitted: every voxel of it is missed, of the class or not."""
    return ConfusionCounts(false_negative=truth.size)


@dataclass(frozen=True, slots=True)
class CellMapScores:
    """The scores of a submission to the challenge, from counts that are pooled over its crops.

    Attributes:
        instances: the counts of each instance class.
        semantic: the counts of each semantic class.

    Example:
        >>> scores = CellMapScores({"mito": InstanceCounts(1, 0, 0, 1.0, 1)}, {"ecs": ConfusionCounts(1, 2, 1)})
        >>> scores.scores, scores.overall
        ({'mito': 1.0, 'ecs': 0.25}, 0.5)
    """

    instances: Mapping[str, InstanceCounts]
    semantic: Mapping[str, ConfusionCounts]

    @classmethod
    def pool(cls, crops: Iterable[Mapping[str, InstanceCounts | ConfusionCounts]]) -> CellMapScores:
        """Return the scores of several crops, each given as the counts of its classes. Counts add up."""
        instances: dict[str, InstanceCounts] = {}
        semantic: dict[str, ConfusionCounts] = {}
        for crop in crops:
            for label, counts in crop.items():
                if isinstance(counts, InstanceCounts):
                    instances[label] = instances.get(label, InstanceCounts()) + counts
                else:
                    semantic[label] = semantic.get(label, ConfusionCounts()) + counts
        return cls(instances, semantic)

    @property
    def scores(self) -> dict[str, float]:
        """The score of each class: the combined score of an instance class, the IoU of a semantic one."""
        return {label: counts.combined for label, counts in self.instances.items()} | {
            label: _iou(counts) for label, counts in self.semantic.items()
        }

    @property
    def overall_instance(self) -> float:
        """The mean of the instance classes' scores; 0 if there are no such classes."""
        return _mean([counts.combined for counts in self.instances.values()])

    @property
    def overall_semantic(self) -> float:
        """The mean of the semantic classes' scores; 0 if there are no such classes."""
        return _mean([_iou(counts) for counts in self.semantic.values()])

    @property
    def overall(self) -> float:
        """The geometric mean of both means."""
        return float(np.sqrt(self.overall_instance * self.overall_semantic))

    def to_json(self) -> dict[str, Any]:
        """Return counts and scores as JSON can hold them, with the date of the rule."""
        return {
            "rule": CELLMAP_RULE,
            "overall": self.overall,
            "overall_instance": self.overall_instance,
            "overall_semantic": self.overall_semantic,
            "instances": {label: instance_json(counts) for label, counts in self.instances.items()},
            "semantic": {label: semantic_json(counts) for label, counts in self.semantic.items()},
        }


def instance_json(counts: InstanceCounts) -> dict[str, float]:
    """Return the counts and scores of an instance class as JSON can hold them."""
    of = {"f1": counts.f1, "distance_score": counts.distance_score, "combined": counts.combined}
    return asdict(counts) | of


def semantic_json(counts: ConfusionCounts) -> dict[str, float]:
    """Return the counts and score of a semantic class as JSON can hold them."""
    return asdict(counts) | {"iou": _iou(counts)}


def _iou(counts: ConfusionCounts) -> float:
    """Return the intersection over union; 1 if there is nothing to count."""
    below = counts.true_positive + counts.false_positive + counts.false_negative
    return counts.true_positive / below if below else 1.0


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
