"""Numbers of objects, in the attributes of a segmentation and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from scalenet_gp.pipelines.segmentation.table import ClassObjects
from scalenet_gp.volumes import group_attributes

__all__ = ["segmentation_table", "summarize"]


def summarize(found: Sequence[ClassObjects]) -> dict[str, dict[str, Any]]:
    """Return for each class the number of objects, their voxels, and their median volume (nm³; None without any)."""
    return {
        one.name: {
            "objects": len(one.rows),
            "voxels": int(one.rows["voxels"].sum()),
            "median_volume": float(np.median(one.rows["voxels"])) * one.voxel_volume if len(one.rows) else None,
            "dims": len(one.voxel_size),
        }
        for one in found
    }


def segmentation_table(segmentations: Mapping[str, Path]) -> Table:
    """Return a table of the objects of finished segmentations, a row for each class.

    Args:
        segmentations: the zarr groups by the names under which they are listed. A single one is listed without name.

    Raises:
        FileNotFoundError: there is no such segmentation.
    """
    several = len(segmentations) > 1
    table = Table(title="Objects", title_justify="left", box=SIMPLE_HEAD)
    for column in (["crop"] if several else []) + ["class"]:
        table.add_column(column)
    for column in ("objects", "voxels", "median volume"):
        table.add_column(column, justify="right")
    for name, path in segmentations.items():
        for index, (label, numbers) in enumerate(group_attributes(path)["objects"].items()):
            begin = [name if index == 0 else ""] if several else []
            table.add_row(*begin, label, f"{numbers['objects']:,}", f"{numbers['voxels']:,}", _volume(numbers))
    return table


def _volume(numbers: Mapping[str, Any]) -> str:
    if numbers["median_volume"] is None:
        return "-"
    dims = numbers["dims"]
    return f"{numbers['median_volume'] / 1000**dims:.3g} µm{'³' if dims == 3 else '²'}"
