"""Confusion counts and the scores that follow from them."""

from scalenet_gp.metrics.confusion import (
    ConfusionCounts,
    Scores,
    empty_scores,
    scores_from_json,
    scores_to_json,
    update_scores,
)

__all__ = ["ConfusionCounts", "Scores", "empty_scores", "scores_from_json", "scores_to_json", "update_scores"]
