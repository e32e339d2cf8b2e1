"""The table of all objects, a CSV file beside the segmentation."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from scalenet_gp.serialization import atomic_write

__all__ = ["ClassObjects", "objects_path", "write_objects"]

_ROWS = 65536
"""Rows that are computed at a time."""


@dataclass(frozen=True, slots=True)
class ClassObjects:
    """The objects of a class.

    Attributes:
        name: the class.
        rows: their measures: see :func:`scalenet_gp.segmentation.fragment_type`.
        voxel_size: nm.
        corner: corner of the first voxel, nm.
    """

    name: str
    rows: np.ndarray
    voxel_size: tuple[Fraction, ...]
    corner: tuple[Fraction, ...]

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel, nm³; its area, nm², in two dimensions."""
        return float(math.prod(self.voxel_size))


def objects_path(segmentation: Path) -> Path:
    """Return the path of the table of a segmentation: ``cells.csv`` beside ``cells.zarr``.

    Example:
        >>> objects_path(Path("runs/first/segmentation.zarr")).name
        'segmentation.csv'
    """
    name = segmentation.name.removesuffix(".zarr")
    return segmentation.with_name(f"{name}.csv")


def write_objects(path: Path, found: Sequence[ClassObjects]) -> None:
    """Write the table, whole or not at all: a row for each object of each class.

    Lengths are nm in the coordinates of the volumes: a voxel's corner is where its box begins, so that the centroid of
    a single voxel is its middle.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_write(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        dims = len(found[0].voxel_size)
        axes = ("z", "y", "x")[-dims:]
        size = "volume_nm3" if dims == 3 else "area_nm2"
        places = (f"{what}_{axis}_nm" for what in ("begin", "end", "centroid") for axis in axes)
        writer.writerow(["id", "class", size, "voxels", *places, "mean_probability"])
        for one in found:
            for first in range(0, len(one.rows), _ROWS):
                writer.writerows(_rows(one, one.rows[first : first + _ROWS]))


def _rows(one: ClassObjects, rows: np.ndarray) -> Iterator[list[str]]:
    size, corner = (np.array([float(length) for length in lengths]) for lengths in (one.voxel_size, one.corner))
    voxels = rows["voxels"].astype(np.float64)
    begin, end = (rows[name] * size + corner for name in ("begin", "end"))
    centroid = (rows["places"] / voxels[:, None] + 0.5) * size + corner
    columns = np.concatenate([begin, end, centroid], axis=1)
    means = rows["values"] / voxels
    for row, volume, lengths, mean in zip(rows, voxels * one.voxel_volume, columns, means, strict=True):
        yield [
            str(row["id"]),
            one.name,
            f"{volume:.12g}",
            str(row["voxels"]),
            *(f"{length:.10g}" for length in lengths),
            f"{mean:.6g}",
        ]
