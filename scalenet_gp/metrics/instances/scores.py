"""All scores of a segmentation of one class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from scalenet_gp.metrics.instances.boundary import BoundaryCounts
from scalenet_gp.metrics.instances.clustering import (
    AdaptedRand,
    VariationOfInformation,
    adapted_rand,
    cremi_score,
    variation_of_information,
)
from scalenet_gp.metrics.instances.contingency import ContingencyTable
from scalenet_gp.metrics.instances.matching import (
    IOU_THRESHOLDS,
    ObjectCounts,
    PanopticQuality,
    match_objects,
    panoptic_quality,
)
from scalenet_gp.metrics.instances.run_length import RunLength

__all__ = ["InstanceScores"]


@dataclass(frozen=True, slots=True)
class InstanceScores:
    """The scores of a segmentation of one class.

    Attributes:
        information: the variation of information.
        rand: the adapted Rand error.
        cremi: the CREMI score.
        objects: the counts of objects at each threshold of their intersection over union.
        panoptic: the panoptic quality.
        boundaries: the counts of voxels at boundaries.
        run_length: the expected run length; None without skeletons.

    Example:
        >>> table = ContingencyTable()
        >>> table.update(np.array([1, 1, 2, 2]), np.array([7, 7, 8, 0]))
        >>> scores = InstanceScores.of(table)
        >>> scores.true_objects, scores.predicted_objects, scores.average_precision
        (2, 2, 0.4)
    """

    information: VariationOfInformation
    rand: AdaptedRand
    cremi: float
    objects: Mapping[float, ObjectCounts]
    panoptic: PanopticQuality
    boundaries: BoundaryCounts
    run_length: RunLength | None = None

    @classmethod
    def of(
        cls,
        table: ContingencyTable,
        boundaries: BoundaryCounts | None = None,
        run_length: RunLength | None = None,
    ) -> Self:
        """Return the scores that follow from the overlaps of objects, and from what was counted beside."""
        return cls(
            variation_of_information(table),
            adapted_rand(table),
            cremi_score(table),
            {threshold: match_objects(table, threshold) for threshold in IOU_THRESHOLDS},
            panoptic_quality(table),
            boundaries or BoundaryCounts(),
            run_length,
        )

    @property
    def true_objects(self) -> int:
        """The number of true objects."""
        counts = self.objects[IOU_THRESHOLDS[0]]
        return counts.true_positive + counts.false_negative

    @property
    def predicted_objects(self) -> int:
        """The number of predicted objects."""
        counts = self.objects[IOU_THRESHOLDS[0]]
        return counts.true_positive + counts.false_positive

    @property
    def average_precision(self) -> float:
        """The mean of the average precision over the thresholds; see :func:`.average_precision`."""
        return float(np.mean([counts.average_precision for counts in self.objects.values()]))

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON can hold them, with None for those that are not defined."""
        boundaries, run = self.boundaries, self.run_length
        plain: dict[str, Any] = {
            "true_objects": self.true_objects,
            "predicted_objects": self.predicted_objects,
            "voi_split": self.information.split,
            "voi_merge": self.information.merge,
            "adapted_rand_error": self.rand.error,
            "adapted_rand_precision": self.rand.precision,
            "adapted_rand_recall": self.rand.recall,
            "cremi_score": self.cremi,
            "average_precision": self.average_precision,
            "panoptic_quality": self.panoptic.quality,
            "segmentation_quality": self.panoptic.segmentation_quality,
            "recognition_quality": self.panoptic.recognition_quality,
            "objects": {f"{at:g}": _with_scores(counts, "average_precision") for at, counts in self.objects.items()},
            "boundaries": _with_scores(boundaries),
        }
        if run is not None:
            names = ("expected", "best", "share", "length", "split", "merged")
            plain["run_length"] = {name: getattr(run, name) for name in names}
        return _without_nan(plain)


def _with_scores(counts: ObjectCounts | BoundaryCounts, *more: str) -> dict[str, float]:
    names = (*type(counts).__dataclass_fields__, "precision", "recall", "f1", *more)
    return {name: getattr(counts, name) for name in names}


def _without_nan(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {name: _without_nan(value) for name, value in plain.items()}
    return None if isinstance(plain, float) and math.isnan(plain) else plain
