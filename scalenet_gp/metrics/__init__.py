"""Confusion counts and the scores that follow from them, and recall within groups of exclusive classes."""

from scalenet_gp.metrics.confusion import (
    ConfusionCounts,
    Scores,
    empty_scores,
    mean_scores,
    scores_from_json,
    scores_to_json,
    update_scores,
)
from scalenet_gp.metrics.groups import GroupCounts, GroupObjects, GroupScores

__all__ = [
    "ConfusionCounts",
    "GroupCounts",
    "GroupObjects",
    "GroupScores",
    "Scores",
    "empty_scores",
    "mean_scores",
    "scores_from_json",
    "scores_to_json",
    "update_scores",
]
