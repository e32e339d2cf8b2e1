"""Run files that write themselves: a look at the data, and choices with their reasons."""

from scalenet_gp.pipelines.planning.choices import NetworkChoice, Scale
from scalenet_gp.pipelines.planning.fingerprint import ClassFingerprint, Fingerprint, SourceFingerprint
from scalenet_gp.pipelines.planning.plan_job import PlannedRun, data_of_file, data_of_paths, plan_run, write_fresh

__all__ = [
    "ClassFingerprint",
    "Fingerprint",
    "NetworkChoice",
    "PlannedRun",
    "Scale",
    "SourceFingerprint",
    "data_of_file",
    "data_of_paths",
    "plan_run",
    "write_fresh",
]
