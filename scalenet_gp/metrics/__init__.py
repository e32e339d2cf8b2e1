"""Confusion counts and their scores, groups of exclusive classes, instances, the metric of CellMap's challenge."""

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
from scalenet_gp.metrics.consistency import Consistency, VolumeFractions, compare_neighbours
from scalenet_gp.metrics.groups import GroupCounts, GroupObjects, GroupScores
from scalenet_gp.metrics.instances.boundary import BoundaryCounts, count_boundaries
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
    average_precision,
    match_objects,
    panoptic_quality,
)
from scalenet_gp.metrics.instances.run_length import RunLength, expected_run_length
from scalenet_gp.metrics.instances.scores import InstanceScores
from scalenet_gp.metrics.threshold_sweep import SWEPT_THRESHOLDS, ThresholdSweep

__all__ = [
    "CELLMAP_RULE",
    "INSTANCE_CLASSES",
    "IOU_THRESHOLDS",
    "SWEPT_THRESHOLDS",
    "AdaptedRand",
    "BoundaryCounts",
    "CellMapScores",
    "ConfusionCounts",
    "Consistency",
    "ContingencyTable",
    "CropGrid",
    "GroupCounts",
    "GroupObjects",
    "GroupScores",
    "InstanceCounts",
    "InstanceScores",
    "ObjectCounts",
    "PanopticQuality",
    "RunLength",
    "Scores",
    "ThresholdSweep",
    "VariationOfInformation",
    "VolumeFractions",
    "adapted_rand",
    "average_precision",
    "closest_level",
    "compare_neighbours",
    "connected_objects",
    "count_boundaries",
    "count_missing_instances",
    "count_missing_semantic",
    "cremi_score",
    "empty_scores",
    "expected_run_length",
    "is_instance_class",
    "match_objects",
    "mean_scores",
    "panoptic_quality",
    "place_on_grid",
    "score_instances",
    "score_semantic",
    "scores_from_json",
    "scores_to_json",
    "update_scores",
    "variation_of_information",
]
