"""Points from files: CSV tables, SWC, and graphs as JSON."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.volumes.skeletons import read_skeletons

__all__ = ["read_points"]


def read_points(path: Path, columns: Sequence[str] = ("z", "y", "x")) -> np.ndarray:
    """Return the positions of the points in a file, nm, (point, axis).

    - CSV has a first line with the names of its columns. Columns that are not named here do not matter: the table of
      objects of ``scalenet-gp segment`` is read with ``("centroid_z_nm", "centroid_y_nm", "centroid_x_nm")``.
    - Every other file, and a folder, is read by :func:`.read_skeletons`: its nodes are the points.

    Args:
        path: the file.
        columns: names of the columns of a CSV file that hold the position, in the order of the axes.

    Raises:
        FileNotFoundError: there is no such file.
        VolumeFormatError: the file is of another form, or has no point. The message says where and what is wrong.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "synapses.csv")
        ...     count = file.write_text("id,x,y,z\\n7,30,20,10.5\\n")
        ...     read_points(file).tolist()
        [[10.5, 20.0, 30.0]]
    """
    points = _read_csv(path, columns) if path.suffix.lower() == ".csv" else read_skeletons(path).positions
    if not len(points):
        raise VolumeFormatError(f"{path} has no point")
    return points


def _read_csv(path: Path, columns: Sequence[str]) -> np.ndarray:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        names = rows.fieldnames or []
        if missing := [name for name in columns if name not in names]:
            raise VolumeFormatError(
                f"{path} has no column {', '.join(missing)}; its first line names {', '.join(names) or 'none'}"
            )
        points = []
        for row in rows:
            try:
                place = [float(row[name]) for name in columns]
            except (TypeError, ValueError):
                place = [math.nan]
            if not all(map(math.isfinite, place)):
                given = ", ".join(str(row[name]) for name in columns)
                raise VolumeFormatError(f"{path}, line {rows.line_num}: ({given}) is not a position of finite numbers")
            points.append(place)
    return np.array(points, float).reshape(-1, len(columns))
