"""Scores as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from scalenet_gp.metrics import Consistency, mean_scores
from scalenet_gp.pipelines.evaluation.evaluate_job import EvaluationResult
from scalenet_gp.pipelines.evaluation.segmentation_job import SegmentationScores
from scalenet_gp.pipelines.runs import ChosenMergeThresholds, ChosenThresholds

__all__ = ["consistency_table", "score_tables", "segmentation_scores_table", "thresholds_table"]


def score_tables(result: EvaluationResult) -> list[Table]:
    """Return scores as tables for the terminal: those of classes, and those of groups if there are any."""
    return [_class_table(result), *([_group_table(result)] if result.voxels else [])]


def segmentation_scores_table(result: SegmentationScores) -> Table:
    """Return the scores of a segmentation as a table for the terminal: a column for each class."""
    table = _table("Objects against the annotation", ("score",), tuple(result.classes))
    rows: dict[str, list[str]] = {}
    for name, scores in result.classes.items():
        half, run = scores.objects[0.5], scores.run_length
        of_class = {
            "true objects": str(scores.true_objects),
            "predicted objects": str(scores.predicted_objects),
            "VOI split": _number(scores.information.split),
            "VOI merge": _number(scores.information.merge),
            "adapted Rand error": _number(scores.rand.error),
            "CREMI score": _number(scores.cremi),
            "F1 at IoU 0.5": _number(half.f1),
            "average precision": _number(scores.average_precision),
            "panoptic quality": _number(scores.panoptic.quality),
            f"boundary F1 within {result.tolerances[name]:g} nm": _number(scores.boundaries.f1),
        }
        if run is not None:
            of_class["expected run length"] = f"{run.expected:.0f} of {run.best:.0f} nm"
        for label, number in of_class.items():
            rows.setdefault(label, []).append(number)
    for label, numbers in rows.items():
        table.add_row(label, *numbers)
    return table


def thresholds_table(chosen: ChosenThresholds) -> Table:
    """Return chosen thresholds as a table for the terminal."""
    table = _table(f"Thresholds, chosen in {chosen.region}", ("output", "class"), ("threshold", "Dice"))
    for output, classes in chosen.outputs.items():
        for index, (name, one) in enumerate(classes.items()):
            table.add_row(output if index == 0 else "", name, f"{one.threshold:g}", _number(one.dice))
    return table


def merge_thresholds_table(chosen: ChosenMergeThresholds) -> Table:
    """Return the scores of objects at all merge thresholds as a table for the terminal; the chosen one is marked."""
    columns = ("VOI split", "VOI merge", "adapted Rand error")
    table = _table(f"Objects at each merge threshold, in {chosen.region}", ("objects", "threshold"), columns)
    for name, scores in chosen.scores.items():
        for index, (threshold, one) in enumerate(scores.items()):
            mark = " *" if float(threshold) == chosen.objects[name] else ""
            numbers = map(_number, (one.voi_split, one.voi_merge, one.adapted_rand_error))
            table.add_row(name if index == 0 else "", f"{threshold}{mark}", *numbers)
    return table


def consistency_table(found: Mapping[str, Mapping[str, Consistency]]) -> Table:
    """Return the consistency of classes as a table for the terminal."""
    compared = any(one.other is not None for classes in found.values() for one in classes.values())
    columns = ("share", "± over blocks", "Dice of planes in blocks", "across blocks", *(["with other"] * compared))
    table = _table("Consistency of the prediction", ("output", "class"), columns)
    for output, classes in found.items():
        for index, (name, one) in enumerate(classes.items()):
            numbers = [one.fractions.mean, one.fractions.deviation]
            numbers += [counts.scores["dice"] for counts in (one.within, one.across, one.other) if counts is not None]
            table.add_row(output if index == 0 else "", name, *map(_number, numbers))
    return table


def _class_table(result: EvaluationResult) -> Table:
    columns = ("Dice", "IoU", "precision", "recall", *(["boundary F1"] if result.boundaries else []))
    table = _table("Scores against the annotation", ("output", "class"), columns)
    for name, classes in result.classes.items():
        boundaries = result.boundaries.get(name, {})
        for index, (label, counts) in enumerate(classes.items()):
            numbers = [*counts.scores.values(), *([boundaries[label].f1] if boundaries else [])]
            table.add_row(name if index == 0 else "", label, *map(_number, numbers))
        means = [*mean_scores(classes).values(), *([result.boundary_f1(name)] if boundaries else [])]
        within = f"mean, boundaries within {result.tolerances[name]:g} nm" if boundaries else "mean"
        table.add_row("", within, *map(_number, means), style="italic", end_section=True)
    return table


def _group_table(result: EvaluationResult) -> Table:
    title = "Exclusive classes: the highest of the group is the true one"
    columns = ("voxels", "recall", "objects", "recall of objects")
    table = _table(title, ("output", "group", "class"), columns)
    for output, groups in result.voxels.items():
        for group, voxels in groups.items():
            objects = result.objects[output][group]
            for index, label in enumerate(voxels.classes):
                begin = (output, group) if index == 0 else ("", "")
                numbers = (str(voxels.total[index]), _number(voxels.recall[label]))
                of_objects = (str(objects.total[index]), _number(objects.recall[label]))
                table.add_row(*begin, label, *numbers, *of_objects)
            means = (_number(voxels.accuracy), str(sum(objects.total)), _number(objects.accuracy))
            chance = f"mean, chance {1 / len(voxels.classes):.3f}"
            table.add_row("", "", chance, str(sum(voxels.total)), *means, style="italic", end_section=True)
    return table


def _table(title: str, names: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    # a region that is open reads [null, …, which rich takes for a style
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD)
    for column in names:
        table.add_column(column)
    for column in numbers:
        table.add_column(column, justify="right")
    return table


def _number(score: float) -> str:
    return "-" if math.isnan(score) else f"{score:.3f}"
