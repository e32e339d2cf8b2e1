"""The folder of a run."""

from scalenet_gp.pipelines.runs.chosen_thresholds import (
    ChosenMergeThresholds,
    ChosenThreshold,
    ChosenThresholds,
    MergeScores,
)
from scalenet_gp.pipelines.runs.run_folder import MAY_CHANGE, RunFolder

__all__ = ["MAY_CHANGE", "ChosenMergeThresholds", "ChosenThreshold", "ChosenThresholds", "MergeScores", "RunFolder"]
