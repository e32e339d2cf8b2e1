"""A folder of slices: one TIFF or PNG picture for each z, in the order of the numbers in their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scalenet_gp.errors import DataError, VolumeFormatError
from scalenet_gp.exchange.libraries import library, unreadable_as
from scalenet_gp.exchange.volume_file import VolumeFile

__all__ = ["SLICES", "open_slices"]

SLICES = (".tif", ".tiff", ".png")
"""The names of slices end so."""


def open_slices(folder: str, axes: str | None) -> VolumeFile:
    """Open the slices in a folder as one volume.

    Args:
        folder: the path of the folder.
        axes: the names of the axes; by default zyx.

    Raises:
        VolumeFormatError: no slices, slices of several kinds, or a gap in their numbers.
    """
    files = sorted(
        (path for path in Path(folder).iterdir() if path.suffix.lower() in SLICES and not path.name.startswith(".")),
        key=lambda path: _natural(path.name),
    )
    if not files:
        raise VolumeFormatError(f"{folder}: no slices: no files whose names end in {', '.join(SLICES)}")
    if len(kinds := sorted({path.suffix for path in files})) > 1:
        raise VolumeFormatError(f"{folder}: slices of several kinds, {', '.join(kinds)}; leave one kind in the folder")
    _check_numbers(folder, [path.name for path in files])
    shape, dtype = _properties(files[0])

    def read(box: tuple[slice, ...]) -> np.ndarray:
        chosen = files[box[0]]
        pictures = [_read(path, shape, dtype)[box[1:]] for path in chosen]
        return np.stack(pictures)

    def check() -> None:
        for path in files:
            _check(path, *_properties(path), shape, dtype)

    return VolumeFile(folder, axes or "zyx", (len(files), *shape), dtype, read, piece=(1, *shape), check=check)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return the key by which names with numbers are sorted as people count."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _check_numbers(folder: str, names: Sequence[str]) -> None:
    """Check that the one number that tells slices apart goes up in equal steps.

    Raises:
        VolumeFormatError: it does not.
    """
    numbers = [[int(part) for part in re.findall(r"\d+", name)] for name in names]
    if len(names) < 3 or len({len(one) for one in numbers}) > 1:
        return
    counting = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    if len(counting) != 1:
        return
    (column,) = counting
    steps = np.diff(column)
    usual = int(np.median(steps))
    if (odd := np.flatnonzero(steps != usual)).size:
        before = int(odd[0])
        raise VolumeFormatError(
            f"{folder}: {names[before + 1]} follows {names[before]}, and the other numbers go up by {usual}: slices "
            f"seem to be missing at {odd.size} places; put pictures there, empty ones if need be, or number the files "
            "anew"
        )


def _properties(path: Path) -> tuple[tuple[int, int], np.dtype[np.generic]]:
    """Return shape and dtype of a picture of grey values, without decoding it."""
    with unreadable_as(str(path), path.suffix[1:].upper()):
        if path.suffix.lower() == ".png":
            properties = library("imageio.v3", str(path)).improps(path)
            shape, dtype = properties.shape, np.dtype(properties.dtype)
        else:
            with library("tifffile", str(path)).TiffFile(path) as file:
                shape, dtype = file.series[0].shape, file.series[0].dtype
    if len(shape) != 2:
        raise VolumeFormatError(f"{path}: a slice of shape {tuple(shape)}; it has to be one picture of grey values")
    return (int(shape[0]), int(shape[1])), dtype


def _read(path: Path, shape: tuple[int, int], dtype: np.dtype[np.generic]) -> np.ndarray:
    with unreadable_as(str(path), path.suffix[1:].upper()):
        if path.suffix.lower() == ".png":
            picture = np.asarray(library("imageio.v3", str(path)).imread(path))
        else:
            picture = np.asarray(library("tifffile", str(path)).imread(path))
    _check(path, picture.shape, picture.dtype, shape, dtype)
    return picture


def _check(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    first_shape: tuple[int, int],
    first: np.dtype[np.generic],
) -> None:
    if shape != first_shape or dtype.newbyteorder("=") != first.newbyteorder("="):
        raise DataError(
            f"{path}: a slice of shape {shape} and {dtype}; the first has {first_shape} and {first}, and all have to "
            "be alike"
        )
