"""Metrics of single objects: counts at a threshold of their overlap, average precision, panoptic quality."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from scalenet_gp.errors import ArgumentError
from scalenet_gp.metrics.instances.contingency import ContingencyTable, sizes_of

__all__ = [
    "IOU_THRESHOLDS",
    "ObjectCounts",
    "PanopticQuality",
    "average_precision",
    "match_objects",
    "panoptic_quality",
]

IOU_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""The thresholds of the average precision: 0.5, 0.55, ..., 0.95."""


@dataclass(frozen=True, slots=True)
class ObjectCounts:
    """Objects that are found, extra and missed, and the scores that follow from them.

    Attributes:
        true_positive: true objects that are matched with a predicted one.
        false_positive: predicted objects that are not matched.
        false_negative: true objects that are not matched.

    Example:
        >>> counts = ObjectCounts(true_positive=6, false_positive=2, false_negative=2)
        >>> counts.f1, counts.average_precision
        (0.75, 0.6)
    """

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )

    @property
    def precision(self) -> float:
        """The share of predicted objects that are matched; NaN if there are none."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """The share of true objects that are matched; NaN if there are none."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def f1(self) -> float:
        """The F1 score, the harmonic mean of precision and recall; NaN if there are no objects."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def average_precision(self) -> float:
        """Matched objects as a share of the matched, the extra and the missed ones; NaN if there are no objects.

        Cellpose, StarDist and the Data Science Bowl of 2018 call this the average precision at a threshold. It is not
        the area below a curve: objects of a segmentation have no confidence to be sorted by.
        """
        return _ratio(self.true_positive, self.true_positive + self.false_positive + self.false_negative)


@dataclass(frozen=True, slots=True)
class PanopticQuality:
    """The panoptic quality of a segmentation of one class; 1 is perfect.

    Attributes:
        segmentation_quality: SQ, the mean intersection over union of matched objects; NaN if none is matched.
        recognition_quality: RQ, the F1 score of the matching; NaN if there are no objects.

    Example:
        >>> PanopticQuality(segmentation_quality=0.8, recognition_quality=0.75).quality
        0.6000000000000001
    """

    segmentation_quality: float
    recognition_quality: float

    @property
    def quality(self) -> float:
        """The product of both, PQ; 0 if no object is matched, NaN if there are none."""
        return self.recognition_quality and self.segmentation_quality * self.recognition_quality


def match_objects(table: ContingencyTable, threshold: float = 0.5) -> ObjectCounts:
    """Return how many objects are matched: those whose intersection over union is at least ``threshold``.

    Objects are matched one to one, as many as possible. From 0.5 on, that needs no search: beyond one half an object
    has one partner at most, and at one half exactly two, which are its halves.

    Voxels without annotation count for nothing, so they may be in the masks of :meth:`.ContingencyTable.update`. A
    predicted object in the background is a false positive.

    Args:
        table: the overlaps of all objects.
        threshold: from 0.5 to 1.

    Raises:
        ArgumentError: the threshold is not in that range.

    Example:
        >>> table = ContingencyTable()
        >>> table.update(np.array([1, 1, 1, 2, 2, 0]), np.array([5, 5, 6, 7, 7, 8]))
        >>> match_objects(table)
        ObjectCounts(true_positive=2, false_positive=2, false_negative=0)
    """
    if not 0.5 <= threshold <= 1:
        raise ArgumentError(f"threshold={threshold} has to lie between 0.5 and 1, so that matches are unique")
    truth, segmentation, iou, objects = _overlaps(table)
    return _count_matches(truth, segmentation, iou >= threshold, objects)


def average_precision(table: ContingencyTable, thresholds: Iterable[float] = IOU_THRESHOLDS) -> float:
    """Return the mean of :attr:`.ObjectCounts.average_precision` over thresholds; NaN if there are no objects.

    Source: the Data Science Bowl of 2018, Caicedo et al., Nature Methods 16 (2019).

    Example:
        >>> table = ContingencyTable()
        >>> table.update(np.array([1, 1, 1, 1]), np.array([5, 5, 5, 0]))  # intersection over union 0.75
        >>> average_precision(table)
        0.6
    """
    return float(np.mean([match_objects(table, threshold).average_precision for threshold in thresholds]))


def panoptic_quality(table: ContingencyTable) -> PanopticQuality:
    """Return the panoptic quality. Objects match whose intersection over union is above 0.5.

    Source: Kirillov et al., "Panoptic segmentation", CVPR 2019, for the one class of the objects. Voxels without
    annotation are its "void".

    Example:
        >>> table = ContingencyTable()
        >>> table.update(np.array([1, 1, 1, 1, 2]), np.array([5, 5, 5, 0, 0]))
        >>> panoptic_quality(table)
        PanopticQuality(segmentation_quality=0.75, recognition_quality=0.6666666666666666)
    """
    truth, segmentation, iou, objects = _overlaps(table)
    matched = iou > 0.5
    counts = _count_matches(truth, segmentation, matched, objects)
    return PanopticQuality(float(iou[matched].mean()) if matched.any() else math.nan, counts.f1)


def _overlaps(table: ContingencyTable) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """Return the ids of every overlap, its intersection over union, and the number of true and predicted objects."""
    true, of_true, true_sizes = sizes_of(table.truth, table.voxels)
    predicted, of_predicted, predicted_sizes = sizes_of(table.segmentation, table.voxels)
    iou = table.voxels / (true_sizes[of_true] + predicted_sizes[of_predicted] - table.voxels)
    both = (table.truth > 0) & (table.segmentation > 0)
    objects = int(np.count_nonzero(true)), int(np.count_nonzero(predicted))
    return table.truth[both], table.segmentation[both], iou[both], objects


def _count_matches(
    truth: np.ndarray, segmentation: np.ndarray, matched: np.ndarray, objects: tuple[int, int]
) -> ObjectCounts:
    """Return the counts of the largest one-to-one matching among overlaps of at least one half.

    The overlaps join objects to pairs, and to stars at exactly one half: an object and its two halves, which touch no
    other object. As a forest they are as many as their objects less their overlaps, and each gives one match.
    """
    found = len(np.unique(truth[matched])) + len(np.unique(segmentation[matched])) - int(matched.sum())
    return ObjectCounts(found, objects[1] - found, objects[0] - found)


def _ratio(above: float, below: float) -> float:
    return above / below if below else math.nan
