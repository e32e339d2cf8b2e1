"""The scores of runs as numbers: every one of every run, and their mean and standard deviation over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scalenet_gp.pipelines.reports.document import Numbers
from scalenet_gp.pipelines.reports.found_runs import FoundRun

__all__ = ["MACRO", "Score", "all_scores", "mean_and_deviation", "score_of", "scores_csv", "shown"]

MACRO = "mean"
"""The name that the mean over classes has in the place of a class."""

_VOXELS = ("dice", "iou", "precision", "recall")
_INSTANCES = ("voi_split", "voi_merge", "adapted_rand_error", "average_precision", "panoptic_quality")


@dataclass(frozen=True, slots=True)
class Score:
    """One number of one run.

    Attributes:
        model, data, seed: the run.
        output: the output; empty for scores of objects.
        label: the class, or group of classes; :data:`MACRO` for the mean over classes.
        metric: the name of the score.
        value: the score; NaN where it is not defined.

    Example:
        >>> Score("unet", "demo", 0, "output", MACRO, "dice", 0.5).value
        0.5
    """

    model: str
    data: str
    seed: int
    output: str
    label: str
    metric: str
    value: float


def all_scores(run: FoundRun) -> Iterator[Score]:
    """Yield all scores of a run, of every output."""

    def score(output: str, label: str, metric: str, value: float | None) -> Score:
        return Score(run.model, run.data, run.seed, output, label, metric, math.nan if value is None else float(value))

    for output, of in run.scores["outputs"].items():
        for label, values in ((MACRO, of["mean"]), *of["classes"].items()):
            yield from (score(output, label, metric, values[metric]) for metric in _VOXELS)
        if "boundaries" in of:
            found = of["boundaries"]
            for label, values in ((MACRO, found["mean"]), *found["classes"].items()):
                yield score(output, label, "boundary_f1", values["f1"])
        for group, counts in of["groups"].items():
            for what in ("voxels", "objects"):
                yield score(output, group, f"accuracy of {what}", counts[what]["accuracy"])
                for label, decided in counts[what]["classes"].items():
                    yield score(output, label, f"recall of {what} in {group}", decided["recall"])
    for label, values in (run.segmentation or {}).items():
        yield from (score("", label, metric, values[metric]) for metric in _INSTANCES)
        yield score("", label, "boundary_f1 of objects", values["boundaries"]["f1"])


def scores_csv(runs: Sequence[FoundRun]) -> Numbers:
    """Return all scores of all runs."""
    rows = [
        (*(s.model, s.data, s.seed, s.output, s.label, s.metric), None if math.isnan(s.value) else s.value)
        for run in runs
        for s in all_scores(run)
    ]
    return Numbers(("model", "data", "seed", "output", "class", "metric", "value"), rows)


def score_of(run: FoundRun, metric: str, label: str = MACRO) -> float:
    """Return a score of the finest output, or of objects; NaN if there is none."""
    found = (
        s.value for s in all_scores(run) if s.output in ("", run.output) and (s.label, s.metric) == (label, metric)
    )
    return next(found, math.nan)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float, int]:
    """Return the mean, the sample's standard deviation (n - 1), and the number of the values that are defined.

    Example:
        >>> mean_and_deviation([1.0, 3.0, float("nan")])
        (2.0, 1.4142135623730951, 2)
    """
    known = [value for value in values if not math.isnan(value)]
    return (
        fmean(known) if known else math.nan,
        stdev(known) if len(known) > 1 else math.nan,
        len(known),
    )


def shown(values: Sequence[float], form: str = ".3f") -> str:
    """Return mean ± standard deviation as text; the mean alone of one value.

    Example:
        >>> shown([0.5, 0.7]), shown([0.5]), shown([])
        ('0.600 ± 0.141', '0.500', '-')
    """
    mean, deviation, count = mean_and_deviation(values)
    if not count:
        return "-"
    return format(mean, form) if math.isnan(deviation) else f"{mean:{form}} ± {deviation:{form}}"
