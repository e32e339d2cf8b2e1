"""Scores as a table."""

from __future__ import annotations

import math

from rich.box import SIMPLE_HEAD
from rich.table import Table

from scalenet_gp.metrics import Scores

__all__ = ["score_table"]


def score_table(scores: Scores) -> Table:
    """Return scores as a table for the terminal."""
    table = Table(title="Scores against the annotation", title_justify="left", box=SIMPLE_HEAD)
    for column in ("output", "class", "Dice", "IoU", "precision", "recall"):
        table.add_column(column, justify="left" if column in ("output", "class") else "right")
    for name, classes in scores.items():
        for index, (label, counts) in enumerate(classes.items()):
            values = ("-" if math.isnan(score) else f"{score:.3f}" for score in counts.scores.values())
            table.add_row(name if index == 0 else "", label, *values, end_section=index == len(classes) - 1)
    return table
