"""Assessment of networks: validation in training, evaluation of predictions, the final evaluation of a run."""

from scalenet_gp.pipelines.evaluation.compared_blocks import compared_blocks
from scalenet_gp.pipelines.evaluation.consistency_job import check_consistency
from scalenet_gp.pipelines.evaluation.evaluate_job import EvaluationResult, evaluate
from scalenet_gp.pipelines.evaluation.final_evaluation_job import RunResult, final_evaluation
from scalenet_gp.pipelines.evaluation.held_out import check_evaluation, evaluation_roi
from scalenet_gp.pipelines.evaluation.merge_threshold_job import choose_merge_threshold
from scalenet_gp.pipelines.evaluation.score_table import (
    consistency_table,
    merge_thresholds_table,
    score_tables,
    segmentation_scores_table,
    thresholds_table,
)
from scalenet_gp.pipelines.evaluation.segmentation_job import (
    SegmentationScores,
    evaluate_segmentation,
    true_instances,
)
from scalenet_gp.pipelines.evaluation.threshold_job import choose_thresholds
from scalenet_gp.pipelines.evaluation.validation import Validation

__all__ = [
    "EvaluationResult",
    "RunResult",
    "SegmentationScores",
    "Validation",
    "check_consistency",
    "check_evaluation",
    "choose_merge_threshold",
    "choose_thresholds",
    "compared_blocks",
    "consistency_table",
    "evaluate",
    "evaluate_segmentation",
    "evaluation_roi",
    "final_evaluation",
    "merge_thresholds_table",
    "score_tables",
    "segmentation_scores_table",
    "thresholds_table",
    "true_instances",
]
