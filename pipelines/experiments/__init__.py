"""Experiments: every model on every data set with every seed, as ordinary runs."""

from scalenet_gp.pipelines.experiments.experiment_folder import ExperimentFolder
from scalenet_gp.pipelines.experiments.experiment_job import experiment
from scalenet_gp.pipelines.experiments.followed_runs import follow_runs
from scalenet_gp.pipelines.experiments.matrix import Budget, Match, Matrix
from scalenet_gp.pipelines.experiments.outcomes import ExperimentResult, RunOutcome
from scalenet_gp.pipelines.experiments.plan import Cell, ExperimentPlan, Length, Width, plan_experiment
from scalenet_gp.pipelines.experiments.processes import Progress, RunProcess
from scalenet_gp.pipelines.experiments.tables import experiment_table, plan_table
from scalenet_gp.pipelines.experiments.widths import block_plan, count_parameters, macs_per_voxel

__all__ = [
    "Budget",
    "Cell",
    "ExperimentFolder",
    "ExperimentPlan",
    "ExperimentResult",
    "Length",
    "Match",
    "Matrix",
    "Progress",
    "RunOutcome",
    "RunProcess",
    "Width",
    "block_plan",
    "count_parameters",
    "experiment",
    "experiment_table",
    "follow_runs",
    "macs_per_voxel",
    "plan_experiment",
    "plan_table",
]
