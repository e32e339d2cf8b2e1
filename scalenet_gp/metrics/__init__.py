"""Confusion counts and the scores that follow from them."""

from scalenet_gp.metrics.confusion import (
    Scores,
    empty_scores,
    score_table,
    scores_from_json,
    scores_to_json,
    update_scores,
)

__all__ = ["Scores", "empty_scores", "score_table", "scores_from_json", "scores_to_json", "update_scores"]
