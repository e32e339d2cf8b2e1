"""Scores as tables."""

from __future__ import annotations

import math

from rich.box import SIMPLE_HEAD
from rich.table import Table

from scalenet_gp.metrics import mean_scores
from scalenet_gp.pipelines.evaluation.evaluate_job import EvaluationResult

__all__ = ["score_tables"]


def score_tables(result: EvaluationResult) -> list[Table]:
    """Return scores as tables for the terminal: those of classes, and those of groups if there are any."""
    return [_class_table(result), *([_group_table(result)] if result.voxels else [])]


def _class_table(result: EvaluationResult) -> Table:
    table = _table("Scores against the annotation", ("output", "class"), ("Dice", "IoU", "precision", "recall"))
    for name, classes in result.classes.items():
        for index, (label, counts) in enumerate(classes.items()):
            table.add_row(name if index == 0 else "", label, *map(_number, counts.scores.values()))
        table.add_row("", "mean", *map(_number, mean_scores(classes).values()), style="italic", end_section=True)
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
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in names:
        table.add_column(column)
    for column in numbers:
        table.add_column(column, justify="right")
    return table


def _number(score: float) -> str:
    return "-" if math.isnan(score) else f"{score:.3f}"
