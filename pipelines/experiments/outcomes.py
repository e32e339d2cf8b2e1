"""The outcomes of the runs of an experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from scalenet_gp.metrics import mean_scores
from scalenet_gp.pipelines.evaluation import EvaluationResult
from scalenet_gp.pipelines.experiments.plan import Cell, ExperimentPlan
from scalenet_gp.pipelines.experiments.processes import Progress, RunProcess
from scalenet_gp.pipelines.runs import RunFacts, RunFolder

__all__ = ["ExperimentResult", "RunOutcome", "outcome_of"]


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The end of a run.

    Attributes:
        progress: how it ended.
        folder: its folder.
        log: the file with what its process told.
        dice: the mean Dice coefficient of the finest output; NaN without an evaluation.
        training_processor: processor seconds of the training, of all processes that worked on it and told.
    """

    progress: Progress
    folder: Path
    log: Path
    dice: float = math.nan
    training_processor: float = math.nan


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """The end of an experiment.

    Attributes:
        folder: its folder.
        plan: what was done.
        runs: the outcome of every run.
    """

    folder: Path
    plan: ExperimentPlan
    runs: Mapping[Cell, RunOutcome]

    @property
    def failed(self) -> dict[Cell, RunOutcome]:
        """The runs that are not done."""
        return {cell: run for cell, run in self.runs.items() if run.progress.state != "done"}


def outcome_of(state: Progress, run: RunProcess, length: int) -> RunOutcome:
    """Return the outcome of a run from its folder.

    Args:
        state: how it ended.
        run: the run.
        length: its iterations.
    """
    folder = RunFolder(run.folder)
    if state.state != "done":
        return RunOutcome(state, run.folder, run.log)
    attempts = RunFacts.read(folder.facts).attempts
    seconds = sum(attempt.training_processor or 0 for attempt in attempts)
    return RunOutcome(replace(state, iteration=length), run.folder, run.log, _dice(folder.scores), seconds)


def _dice(scores: Path) -> float:
    """Return the mean Dice coefficient of the finest output, which comes last; NaN if nothing was evaluated."""
    if not scores.exists():
        return math.nan
    return mean_scores(list(EvaluationResult.read(scores).classes.values())[-1])["dice"]
