"""Measured objects in short."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from scalenet_gp.pipelines.measuring.tables import Columns

__all__ = ["RECORD", "measures_table", "summarize"]

RECORD = "measures.json"
"""The file that says what the tables are of, with the numbers of each class."""


def summarize(columns: Columns) -> dict[str, Any]:
    """Return the numbers of a class, from the columns of its objects: see :func:`.object_columns`."""
    flat = "area_nm2" in columns
    amount, surface, cut = (
        columns[name]
        for name in (("area_nm2", "surface_nm", "cut_nm") if flat else ("volume_nm3", "surface_nm2", "cut_nm2"))
    )
    return {
        "dims": 2 if flat else 3,
        "objects": len(amount),
        "not_cut": int(np.count_nonzero(cut == 0)),
        "median_size": float(np.median(amount)) if len(amount) else None,
        "median_surface": float(np.median(surface)) if len(amount) else None,
        "in_contact": int(np.count_nonzero(columns["contacts"])),
    }


def measures_table(output: Path) -> Table:
    """Return a table of finished measures, a row for each class.

    Args:
        output: folder that :func:`.measure` made.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    table = Table(title="Objects", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("class")
    for column in ("objects", "not cut by the border", "median size", "median surface", "in contact"):
        table.add_column(column, justify="right")
    record: Mapping[str, Mapping[str, Any]] = json.loads((output / RECORD).read_bytes())["objects"]
    for name, numbers in record.items():
        sizes = [
            _length(numbers[of], numbers["dims"] - less) for of, less in (("median_size", 0), ("median_surface", 1))
        ]
        counts = [f"{numbers[of]:,}" for of in ("objects", "not_cut", "in_contact")]
        table.add_row(name, *counts[:2], *sizes, counts[2])
    return table


def _length(value: float | None, power: int) -> str:
    return "-" if value is None else f"{value / 1000**power:.3g} µm{('', '', '²', '³')[power]}"
