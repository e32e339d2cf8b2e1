"""The folder of a run."""

from scalenet_gp.pipelines.runs.chosen_thresholds import (
    ChosenMergeThresholds,
    ChosenThreshold,
    ChosenThresholds,
    MergeScores,
)
from scalenet_gp.pipelines.runs.run_facts import Attempt, RunFacts, describe_machine
from scalenet_gp.pipelines.runs.run_folder import MAY_CHANGE, RunFolder, describe_differences

__all__ = [
    "MAY_CHANGE",
    "Attempt",
    "ChosenMergeThresholds",
    "ChosenThreshold",
    "ChosenThresholds",
    "MergeScores",
    "RunFacts",
    "RunFolder",
    "describe_differences",
    "describe_machine",
]
