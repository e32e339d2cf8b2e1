"""Neuroglancer's precomputed volumes: a file ``info``, and a folder for each scale.

Sizes and positions are listed as x, y, z and served as z, y, x; a position is that of a corner, in whole voxels.

Source of the format:
https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/volume.md.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.geometry import format_size
from scalenet_gp.volumes.axes import served_axes
from scalenet_gp.volumes.metadata import (
    Level,
    Number,
    ReadOptions,
    Translation,
    VolumeMetadata,
    check_arrays,
    consistent_levels,
    malformed_error,
)
from scalenet_gp.volumes.storage import ZarrNode, open_scale

__all__ = ["is_precomputed", "read_precomputed", "scale_keys"]


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
    stored = [
        open_scale(
            node,
            scale.key,
            index,
            (info.num_channels, *scale.size[::-1]),
            (1, *scale.chunk_sizes[0][::-1]),
            dtype,
            options.cache,
        )
        for index, scale in scales
    ]
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
    if (stated := options.voxel_size) not in (None, result[0].voxel_size):
        raise VolumeFormatError(
            f"{path}: its metadata say voxels of {format_size(result[0].voxel_size)} nm, the argument voxel_size of "
            f"{format_size(stated or ())} nm; leave it out"
        )
    check_arrays(path, result, arrays)
    result = result if key is None else tuple(replace(level, path=".") for level in result)
    channels = arrays[0].shape[0] if arrays[0].ndim > 3 else None
    return VolumeMetadata(spatial, channels, dtype, result, arrays)


class _Scale(BaseModel):
    key: str
    size: tuple[int, int, int]
    resolution: tuple[Number, Number, Number]
    voxel_offset: tuple[int, int, int] = (0, 0, 0)
    chunk_sizes: list[tuple[int, int, int]] = Field(min_length=1)


class _Info(BaseModel):
    data_type: str = Field(pattern="^(u?int(8|16|32|64)|float32)$")
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
