"""The report of many runs: one page, with its figures and numbers beside it."""

from scalenet_gp.pipelines.reports.report_job import report
from scalenet_gp.pipelines.reports.significance import Comparison, compare_with_reference, correct_by_holm

__all__ = ["Comparison", "compare_with_reference", "correct_by_holm", "report"]
