"""TIFF stacks: plain, ImageJ's and OME-TIFF, of any size, in strips or tiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.exchange.libraries import library, rounded, unreadable_as
from scalenet_gp.exchange.volume_file import Stated, VolumeFile

__all__ = ["open_tiff"]

_NO_UNITS = ("", "pixel", "pixels", "voxel", "voxels", "inch")
"""Names that programs write where nobody gave a unit."""


def open_tiff(path: str, dataset: str | None, axes: str | None) -> VolumeFile:
    """Open a TIFF file as one volume.

    Args:
        path: the path of the file.
        dataset: the index of the series, if there are several.
        axes: the names of the axes; by default as the file says, further pages along z.

    Raises:
        VolumeFormatError: not a TIFF file, or one of several series and none is chosen, or one with colors.
    """
    tifffile = library("tifffile", path)
    with unreadable_as(path, "TIFF"):
        file = tifffile.TiffFile(path)
    try:
        with unreadable_as(path, "TIFF"):
            return _open(path, file, dataset, axes)
    except BaseException:
        file.close()
        raise


def _open(path: str, file: Any, dataset: str | None, axes: str | None) -> VolumeFile:
    series = file.series
    shapes = ", ".join(f"{index}: {one.axes} {one.shape}" for index, one in enumerate(series))
    if dataset is None and len(series) > 1:
        raise VolumeFormatError(f"{path}: several series; choose one with --dataset: {shapes}")
    if dataset is not None and (not dataset.isdecimal() or int(dataset) >= len(series)):
        raise ArgumentError(f"{path}: there is no series {dataset!r}; there are {shapes}")
    index = int(dataset or 0)
    one = series[index]
    if "S" in one.axes:
        raise VolumeFormatError(f"{path}: pictures with colors, {one.axes} {one.shape}; convert them to grey values")
    named = axes or _named(one.axes)
    read = _mapped(path, file, one) if one.dataoffset is not None else _paged(path, file, one)
    height, width = one.shape[-2:]
    chunk = one.keyframe.chunks[:2] if one.dataoffset is None else (height, width)
    return VolumeFile(
        path,
        named,
        one.shape,
        one.dtype,
        read,
        piece=(1,) * (len(one.shape) - 2) + (min(chunk[0], height), min(chunk[1], width)),
        stated=lambda: _stated(path, file, one, index),
        close=file.close,
    )


def _named(axes: str) -> str:
    """Return our names of tifffile's axes: a sequence of images of no known kind is along z."""
    names = axes.lower()
    if "z" not in names:
        names = names.replace("q", "z", 1) if "q" in names else names.replace("i", "z", 1)
    return names


def _mapped(path: str, file: Any, series: Any) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """Return a reader of voxels that lie in the file as in memory."""
    dtype = series.dtype.newbyteorder(file.byteorder)
    voxels = np.memmap(path, dtype, "r", series.dataoffset, tuple(series.shape))
    return lambda box: np.array(voxels[box])


def _paged(path: str, file: Any, series: Any) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """Return a reader that decodes the strips or tiles that a box needs."""
    leading = series.shape[:-2]
    pages = list(series.pages)
    if len(pages) != math.prod(leading) or any(page is None for page in pages):
        raise VolumeFormatError(f"{path}: {len(pages)} pages for a volume of shape {series.shape}; some are missing")

    def read(box: tuple[slice, ...]) -> np.ndarray:
        ranges = [range(*part.indices(length)) for part, length in zip(box, series.shape, strict=True)]
        voxels = np.zeros([len(along) for along in ranges], series.dtype)
        for place in itertools.product(*(enumerate(along) for along in ranges[:-2])):
            page = pages[int(np.ravel_multi_index([index for _, index in place], leading)) if leading else 0]
            with unreadable_as(path, "TIFF"):
                _read_page(file.filehandle, page, voxels[tuple(at for at, _ in place)], ranges[-2], ranges[-1])
        return voxels

    return read


def _read_page(handle: Any, page: Any, out: np.ndarray, rows: range, columns: range) -> None:
    """Fill ``out`` with rows and columns of a page."""
    key = page.keyframe
    height, width = key.chunks[:2]
    across = -(-key.imagewidth // width)
    for down, along in itertools.product(
        range(rows.start // height, -(-rows.stop // height)), range(columns.start // width, -(-columns.stop // width))
    ):
        segment = down * across + along
        if page.databytecounts[segment] == 0:
            continue  # nothing is stored: zeros
        handle.seek(page.dataoffsets[segment])
        decoded, _, shape = key.decode(handle.read(page.databytecounts[segment]), segment, jpegtables=key.jpegtables)
        if decoded is None:
            continue
        part = decoded[0, : shape[1], : shape[2], 0]
        y, x = down * height, along * width
        low, high = max(rows.start, y), min(rows.stop, y + part.shape[0])
        left, right = max(columns.start, x), min(columns.stop, x + part.shape[1])
        out[low - rows.start : high - rows.start, left - columns.start : right - columns.start] = part[
            low - y : high - y, left - x : right - x
        ]


def _stated(path: str, file: Any, series: Any, index: int) -> Stated | None:
    depth = 3 if len(series.shape) - ("C" in series.axes) > 2 else 2
    if file.is_ome:
        return _stated_by_ome(path, file.ome_metadata, index, depth)
    return _stated_by_imagej(file, depth) if file.is_imagej else None


def _stated_by_ome(path: str, text: str, index: int, depth: int) -> Stated | None:
    images = library("tifffile", path).xml2dict(text)["OME"]["Image"]
    pixels = (images if isinstance(images, list) else [images])[index]["Pixels"]
    names = ("Z", "Y", "X")[-depth:]
    if any(f"PhysicalSize{name}" not in pixels for name in names):
        return None
    units = {pixels.get(f"PhysicalSize{name}Unit", "µm") for name in names}
    sizes = tuple(rounded(pixels[f"PhysicalSize{name}"]) for name in names)
    if len(units) > 1:
        raise VolumeFormatError(
            f"{path}: PhysicalSize of several units, {', '.join(sorted(units))}; leave them out with "
            "--ignore-metadata, and state --voxel-size"
        )
    return None if min(sizes) <= 0 or "pixel" in units else Stated("PhysicalSize of its OME metadata", sizes, *units)


def _stated_by_imagej(file: Any, depth: int) -> Stated | None:
    found, tags = file.imagej_metadata or {}, file.pages[0].tags
    unit = str(found.get("unit", "")).replace("\\u00B5", "µ").strip()
    lengths = [found.get("spacing")] if depth == 3 else []
    for name in ("YResolution", "XResolution"):
        number, divisor = tags[name].value if name in tags else (0, 1)
        lengths.append(divisor / number if number else None)
    if unit.lower() in _NO_UNITS or any(not length for length in lengths):
        return None
    return Stated("its ImageJ metadata", tuple(rounded(length) for length in lengths if length), unit)
