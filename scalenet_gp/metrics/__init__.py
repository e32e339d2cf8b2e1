"""Confusion counts and their scores, recall within groups of exclusive classes, the metric of CellMap's challenge."""

from scalenet_gp.metrics.cellmap.instances import (
    InstanceCounts,
    connected_objects,
    count_missing_instances,
    score_instances,
)
from scalenet_gp.metrics.cellmap.placement import CropGrid, closest_level, place_on_grid
from scalenet_gp.metrics.cellmap.rule import CELLMAP_RULE, INSTANCE_CLASSES, is_instance_class
from scalenet_gp.metrics.cellmap.scores import CellMapScores, count_missing_semantic, score_semantic
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
    "CELLMAP_RULE",
    "INSTANCE_CLASSES",
    "CellMapScores",
    "ConfusionCounts",
    "CropGrid",
    "GroupCounts",
    "GroupObjects",
    "GroupScores",
    "InstanceCounts",
    "Scores",
    "closest_level",
    "connected_objects",
    "count_missing_instances",
    "count_missing_semantic",
    "empty_scores",
    "is_instance_class",
    "mean_scores",
    "place_on_grid",
    "score_instances",
    "score_semantic",
    "scores_from_json",
    "scores_to_json",
    "update_scores",
]
