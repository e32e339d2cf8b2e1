"""Looks at a run before training: plans, samples, a dry run."""

from scalenet_gp.pipelines.inspection.check_job import CheckResult, ClassAmount, SourceCheck, check, check_table
from scalenet_gp.pipelines.inspection.dry_run_job import DryRun, dry_run, dry_run_table
from scalenet_gp.pipelines.inspection.network_survey import NetworkFigures, build_kind, network_table, survey_network
from scalenet_gp.pipelines.inspection.plan_table import plan_of_shape, plan_table
from scalenet_gp.pipelines.inspection.preview_job import draw_samples, preview

__all__ = [
    "CheckResult",
    "ClassAmount",
    "DryRun",
    "NetworkFigures",
    "SourceCheck",
    "build_kind",
    "check",
    "check_table",
    "draw_samples",
    "dry_run",
    "dry_run_table",
    "network_table",
    "plan_of_shape",
    "plan_table",
    "preview",
    "survey_network",
]
