"""Evaluation of predictions against the annotation."""

from scalenet_gp.pipelines.evaluation.evaluate_job import evaluate
from scalenet_gp.pipelines.evaluation.run_result import RunResult, final_evaluation
from scalenet_gp.pipelines.evaluation.score_table import score_table

__all__ = ["RunResult", "evaluate", "final_evaluation", "score_table"]
