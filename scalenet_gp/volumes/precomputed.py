"""Neuroglancer's precomputed volumes: a file ``info``, and a folder for each scale.

Sizes and positions are listed as x, y, z and served as z, y, x; a position is that of a corner, in whole voxels.

Source of the format:
https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/volume.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from scalenet_gp.errors import ArgumentError, LatticeError, VolumeFormatError
from scalenet_gp.geometry import format_size
from scalenet_gp.volumes.axes import served_axes
from scalenet_gp.volumes.location import StrPath
from scalenet_gp.volumes.metadata import (
    Level,
    Number,
    ReadOptions,
    Translation,
    VolumeMetadata,
    check_arrays,
    check_stated,
    consistent_levels,
    malformed_error,
)
from scalenet_gp.volumes.storage import ZarrNode, find_node, open_scale
from scalenet_gp.volumes.stored_array import ChunkCache, StoredArray

__all__ = ["create_precomputed", "is_precomputed", "open_precomputed", "read_precomputed", "scale_keys"]

_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32")


def is_precomputed(node: ZarrNode) -> bool:
    """Return True if this is the folder of a precomputed volume."""
    return node.driver == "neuroglancer_precomputed"


def scale_keys(node: ZarrNode) -> tuple[str, ...]:
    """Return the names of the scales of a precomputed volume.

    Raises:
        VolumeFormatError: malformed metadata.
    """
    return tuple(scale.key for scale in _info(node).scales)


def read_precomputed(node: ZarrNode, options: ReadOptions, key: str | None = None) -> VolumeMetadata:
    """Read and check the metadata of a precomputed volume.

    Args:
        node: a node for which :func:`is_precomputed` is True.
        options: the options of reading; positions name corners unless they say otherwise.
        key: one of :func:`scale_keys`, to read this scale alone.

    Raises:
        ValueError: malformed metadata, or scales whose corners disagree, or options that do not fit.
    """
    path, info = node.path, _info(node)
    dtype = np.dtype(info.data_type)
    scales = [(index, scale) for index, scale in enumerate(info.scales) if key in (None, scale.key)]
    stored = [_array(node, info, index, scale, options.cache) for index, scale in scales]
    if info.num_channels == 1:
        stored = [array.at({0: 0}) for array in stored]
    names = ("z", "y", "x") if info.num_channels == 1 else ("c", "z", "y", "x")
    spatial, arrays = served_axes(path, names, "c", stored, options.select)

    def levels(translation: Translation | None) -> tuple[Level, ...]:
        found = []
        for (_, scale), array in zip(scales, arrays, strict=True):
            size = scale.resolution[::-1]
            begin = tuple(offset * length for offset, length in zip(scale.voxel_offset[::-1], size, strict=True))
            if translation == "centre":
                begin = tuple(b - length / 2 for b, length in zip(begin, size, strict=True))
            found.append(Level(scale.key, array.shape[-3:], size, begin))
        return tuple(found)

    try:
        result = consistent_levels(path, levels, options.translation or "corner")
    except VolumeFormatError as error:
        raise VolumeFormatError(f"{error}; or open one scale alone, as {path}/{scales[0][1].key}") from error
    if any(math.prod(b.voxel_size) < math.prod(a.voxel_size) for a, b in pairwise(result)):
        order = ", ".join(f"{level.path} of {format_size(level.voxel_size)} nm" for level in result)
        raise VolumeFormatError(f"{path}: the scales are {order}; they have to be listed from fine to coarse")
    check_stated(path, "its info", result[0].voxel_size, options.voxel_size)
    check_arrays(path, result, arrays)
    result = result if key is None else tuple(replace(level, path=".") for level in result)
    channels = arrays[0].shape[0] if arrays[0].ndim > 3 else None
    return VolumeMetadata(spatial, channels, dtype, result, arrays)


def create_precomputed(
    path: StrPath, levels: Sequence[Level], channels: int, dtype: np.dtype[Any], labels: bool, chunk: int = 64
) -> None:
    """Create a precomputed volume of zeros: its ``info``.

    Args:
        path: the folder to make.
        levels: the scales, from fine to coarse; their names become those of their voxel sizes.
        channels: the number of channels.
        dtype: of the voxels.
        labels: the values are names: the volume is a segmentation, compressed as such if it can be.
        chunk: voxels of a chunk along an axis.

    Raises:
        FileExistsError: there is something at ``path``.
        LatticeError: a level does not begin at a whole voxel from zero, as the format demands.
        ArgumentError: two dimensions, or a dtype that the format does not have.
    """
    if dtype.name not in _DTYPES:
        raise ArgumentError(f"{path}: precomputed volumes hold {', '.join(_DTYPES)}, not {dtype}")
    segmentation = labels and dtype.name in ("uint32", "uint64")
    scales = []
    for level in levels:
        if len(level.shape) != 3:
            raise ArgumentError(f"{path}: precomputed volumes have three dimensions, not {len(level.shape)}")
        offset = [b / v for b, v in zip(level.begin, level.voxel_size, strict=True)]
        if any(voxels.denominator != 1 for voxels in offset):
            near = tuple(round(voxels) * v for voxels, v in zip(offset, level.voxel_size, strict=True))
            raise LatticeError(
                f"{path}: {level.path} begins at {format_size(level.begin)} nm, which is not a whole number of its "
                f"voxels of {format_size(level.voxel_size)} nm, as precomputed volumes demand; place it elsewhere, as "
                f"at {format_size(near)} nm"
            )
        scale = {
            "key": "_".join(format(float(length), ".12g") for length in level.voxel_size[::-1]),
            "size": list(level.shape[::-1]),
            "resolution": [float(length) for length in level.voxel_size[::-1]],
            "voxel_offset": [int(voxels) for voxels in offset[::-1]],
            "chunk_sizes": [[chunk] * 3],
            "encoding": "compressed_segmentation" if segmentation else "raw",
        }
        scales.append(scale | ({"compressed_segmentation_block_size": [8, 8, 8]} if segmentation else {}))
    info = {
        "@type": "neuroglancer_multiscale_volume",
        "type": "segmentation" if labels else "image",
        "data_type": dtype.name,
        "num_channels": channels,
        "scales": scales,
    }
    folder = Path(path)
    if folder.exists():
        raise FileExistsError(f"{path} exists; choose another path or remove it")
    folder.mkdir(parents=True)
    (folder / "info").write_text(json.dumps(info, indent=1), encoding="utf-8")


def open_precomputed(path: StrPath) -> tuple[StoredArray, ...]:
    """Open the scales of a precomputed volume for writing, each (channel, z, y, x).

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        VolumeFormatError: there is another kind of volume, or its metadata are malformed.
    """
    node = find_node(path)
    if node is None or not is_precomputed(node):
        raise FileNotFoundError(f"{path}: no such precomputed volume")
    info = _info(node)
    return tuple(_array(node, info, index, scale, None) for index, scale in enumerate(info.scales))


def _array(node: ZarrNode, info: _Info, index: int, scale: _Scale, cache: ChunkCache | None) -> StoredArray:
    shape, chunks = (info.num_channels, *scale.size[::-1]), (1, *scale.chunk_sizes[0][::-1])
    return open_scale(node, scale.key, index, shape, chunks, np.dtype(info.data_type), cache)


class _Scale(BaseModel):
    key: str
    size: tuple[int, int, int]
    resolution: tuple[Number, Number, Number]
    voxel_offset: tuple[int, int, int] = (0, 0, 0)
    chunk_sizes: list[tuple[int, int, int]] = Field(min_length=1)


class _Info(BaseModel):
    data_type: Literal["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32"]
    num_channels: int = Field(1, ge=1)
    scales: list[_Scale] = Field(min_length=1)


def _info(node: ZarrNode) -> _Info:
    try:
        info = _Info.model_validate(node.attributes)
    except ValidationError as error:
        raise malformed_error(f"{node.path}/info", "metadata of a precomputed volume", error) from error
    for scale in info.scales:
        if min(scale.size) <= 0 or min(scale.resolution) <= 0:
            raise VolumeFormatError(
                f"{node.path}/info: scale {scale.key} of size {scale.size} and voxels of "
                f"{format_size(scale.resolution)} nm (x, y, z); both have to be positive"
            )
    return info
