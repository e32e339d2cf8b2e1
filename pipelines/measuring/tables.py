"""The tables of objects and of contacts: columns of numbers, CSV and Parquet."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from scalenet_gp.pipelines.measuring.job import MeasuredClass
from scalenet_gp.segmentation import (
    border_faces,
    boundary_faces,
    mean_values,
    principal_axes,
    surface_areas,
)
from scalenet_gp.serialization import atomic_write

__all__ = ["Columns", "contact_columns", "object_columns", "write_table"]

Columns = Mapping[str, np.ndarray]
"""The columns of a table, all of the same length, by name."""

_ROWS = 65536
"""Rows that are written at a time."""


def object_columns(
    name: str, part: MeasuredClass, rows: np.ndarray, contacts: np.ndarray, overlaps: np.ndarray | None
) -> Columns:
    """Return the columns of the objects of a class.

    Lengths are nm in the coordinates of the volume: a voxel's corner is where its box begins, and a single voxel's
    centroid is its middle.

    Args:
        name: the class.
        part: its volumes.
        rows: of :func:`.merge_measures`.
        contacts: of :func:`.merge_contacts`.
        overlaps: of :func:`.merge_overlaps`; None without parents.
    """
    lengths, corner = ([*map(float, of)] for of in (part.voxel_size, part.ids.begin))
    dims, axes, size = len(lengths), ("z", "y", "x")[-len(lengths) :], np.array(lengths)
    amount, surface = ("volume_nm3", "nm2") if dims == 3 else ("area_nm2", "nm")
    columns: dict[str, np.ndarray] = {
        "id": rows["id"],
        "class": np.full(len(rows), name),
        amount: rows["voxels"] * float(math.prod(part.voxel_size)),
        "voxels": rows["voxels"],
        f"surface_{surface}": surface_areas(rows["crossings"], lengths),
        f"faces_{surface}": boundary_faces(rows["crossings"], lengths),
        f"cut_{surface}": border_faces(rows["cut"], lengths),
    }
    begin, end = (rows[edge] * size + corner for edge in ("begin", "end"))
    centroid = (rows["begin"] + rows["places"] / rows["voxels"][:, None] + 0.5) * size + corner
    for word, places in (("begin", begin), ("end", end), ("centroid", centroid)):
        columns |= {f"{word}_{axis}_nm": places[:, number] for number, axis in enumerate(axes)}
    extents, directions = principal_axes(rows, lengths)
    for rank in range(dims):
        columns[f"axis_{rank + 1}_nm"] = extents[:, rank]
        columns |= {f"axis_{rank + 1}_{axis}": directions[:, rank, number] for number, axis in enumerate(axes)}
    for index, (word, of) in enumerate(part.values.items()):
        columns[f"mean_{word}"] = mean_values(rows, index) * of.scale
    touching = contacts[(contacts["crossings"][:, :dims] > 0).any(axis=1)]
    columns["contacts"] = _counts(rows["id"], np.concatenate([touching["one"], touching["other"]]))
    if overlaps is not None:
        parent, voxels = _largest(rows["id"], overlaps)
        columns |= {"parent": parent, "parent_share": voxels / rows["voxels"]}
    return columns


def contact_columns(name: str, part: MeasuredClass, contacts: np.ndarray) -> Columns:
    """Return the columns of the contacts of a class: pairs of objects with a common face."""
    size = [*map(float, part.voxel_size)]
    touching = contacts[(contacts["crossings"][:, : len(size)] > 0).any(axis=1)]
    area, faces = ("area_nm2", "faces_nm2") if len(size) == 3 else ("length_nm", "faces_nm")
    return {
        "class": np.full(len(touching), name),
        "id": touching["one"],
        "other": touching["other"],
        area: surface_areas(touching["crossings"], size),
        faces: boundary_faces(touching["crossings"], size),
    }


def write_table(path: Path, parts: Sequence[Columns]) -> None:
    """Write tables below one another: ``path.csv``, and ``path.parquet`` if pyarrow is installed.

    A column that only some of them have is empty in the others.

    Raises:
        OSError: it cannot be written.
    """
    names = list(dict.fromkeys(name for part in parts for name in part))
    with atomic_write(path.with_suffix(".csv")) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for part in parts:
            count = len(next(iter(part.values())))
            for first in range(0, count, _ROWS):
                past = min(first + _ROWS, count)
                columns = (_words(part[name][first:past]) if name in part else [""] * (past - first) for name in names)
                writer.writerows(zip(*columns, strict=True))
    try:
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        return
    whole = pyarrow.concat_tables([pyarrow.table(dict(part)) for part in parts], promote_options="default")
    with atomic_write(path.with_suffix(".parquet")) as beside:
        parquet.write_table(whole.select(names), beside)


def _words(column: np.ndarray) -> list[str]:
    return [f"{value:.10g}" for value in column] if column.dtype.kind == "f" else [*map(str, column)]


def _counts(ids: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return how often each of some sorted ids was found."""
    return np.bincount(np.searchsorted(ids, found), minlength=len(ids))


def _largest(ids: np.ndarray, overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the parent of each of some sorted ids, and their common voxels; 0 for an object that lies in none."""
    parent, voxels = np.zeros(len(ids), np.uint64), np.zeros(len(ids), np.int64)
    order = np.lexsort((overlaps["parent"], -overlaps["voxels"], overlaps["id"]))
    found, first = np.unique(overlaps["id"][order], return_index=True)
    place = np.searchsorted(ids, found)
    parent[place], voxels[place] = (overlaps[name][order][first] for name in ("parent", "voxels"))
    return parent, voxels
