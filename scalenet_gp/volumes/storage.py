"""Find and open groups and arrays: zarr of format 2 and 3, N5, and neuroglancer's precomputed volumes.

They are local or behind a URL. Their metadata, small JSON files, are read directly.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorstore as ts

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.volumes.location import StrPath, join, key_value_store, local_path, read_json
from scalenet_gp.volumes.stored_array import NO_CACHE, ChunkCache, StoredArray

__all__ = ["ZarrNode", "array_of", "find_node", "group_attributes", "open_array", "open_scale"]

_NAMES = 64
"""Names of files that are looked at to see how chunks are named."""

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", "info", "attributes.json")
_PRECOMPUTED: Literal["neuroglancer_precomputed"] = "neuroglancer_precomputed"
_ARRAY_METADATA = {
    "zarr": ("shape", "chunks", "dtype", "compressor", "filters", "fill_value", "order"),
    "zarr3": ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "codecs", "fill_value"),
    "n5": ("dimensions", "blockSize", "dataType", "compression"),
}


@dataclass(frozen=True, slots=True)
class ZarrNode:
    """A group or an array in a hierarchy.

    Args:
        path: the path or URL.
        driver: the format, by tensorstore's names: zarr is zarr 2, zarr3 is zarr 3.
        attributes: the user's; of an N5 array they include its own metadata, and of a precomputed volume, which counts
            as a group, they are its ``info``.
        array: the metadata of an array; None for a group.
    """

    path: str
    driver: Literal["zarr", "zarr3", "n5", "neuroglancer_precomputed"]
    attributes: dict[str, Any]
    array: dict[str, Any] | None


def find_node(path: StrPath) -> ZarrNode | None:
    """Return the group or array at ``path``, None if there is nothing. A folder without metadata is a group of N5.

    If a folder holds metadata of several formats, zarr goes before the others, and zarr 3 before zarr 2.

    Raises:
        VolumeFormatError: the metadata are not JSON objects.
        OSError: they cannot be read.
    """
    name = str(path)
    files = read_json(path, _METADATA)
    for file, content in files.items():
        if not isinstance(content, dict):
            raise VolumeFormatError(f"{name}: {file} has to hold a JSON object, not {content!r}")
    if "zarr.json" in files:
        content = files["zarr.json"]
        attributes = {} if content.get("attributes") is None else content["attributes"]
        if not isinstance(attributes, dict):
            raise VolumeFormatError(f"{name}: the attributes in zarr.json have to be a JSON object, not {attributes!r}")
        return ZarrNode(name, "zarr3", attributes, content if "shape" in content else None)
    if {".zarray", ".zgroup", ".zattrs"} & files.keys():
        return ZarrNode(name, "zarr", files.get(".zattrs", {}), files.get(".zarray"))
    if "scales" in files.get("info", {}):  # meshes have such a file, too
        return ZarrNode(name, _PRECOMPUTED, files["info"], None)
    attributes = files.get("attributes.json")
    if attributes is not None:
        array = {key: attributes[key] for key in _ARRAY_METADATA["n5"] if key in attributes}
        return ZarrNode(name, "n5", attributes, array if "dimensions" in attributes else None)
    local = local_path(path)
    return ZarrNode(name, "n5", {}, None) if local is not None and local.is_dir() else None


def group_attributes(path: StrPath) -> dict[str, Any]:
    """Return the attributes of the group at ``path``.

    Raises:
        FileNotFoundError: there is nothing.
        VolumeFormatError: there is no group, or its attributes are not JSON.
    """
    node = find_node(path)
    if node is None:
        raise FileNotFoundError(f"{path}: no such group")
    if node.array is not None:
        raise VolumeFormatError(f"{path}: an array, not a group")
    return node.attributes


def open_array(path: StrPath, cache: ChunkCache | None = None) -> StoredArray:
    """Open the array at ``path``.

    Args:
        path: the path or URL.
        cache: keeps decoded chunks; by default nothing is kept.

    Raises:
        FileNotFoundError: there is nothing.
        VolumeFormatError: there is no array, or one of a kind that cannot be read.
    """
    node = find_node(path)
    if node is None:
        raise FileNotFoundError(f"{path}: no such array")
    return array_of(node, cache)


def array_of(node: ZarrNode, cache: ChunkCache | None = None) -> StoredArray:
    """:func:`open_array` of a node that was found."""
    if node.array is None or node.driver == _PRECOMPUTED:
        raise VolumeFormatError(f"{node.path}: a group, not an array")
    try:
        metadata = _supported(node.driver, node.array)
        shape, chunks, dtype = _layout(node.driver, metadata)
        specification = {
            "driver": node.driver,
            "kvstore": key_value_store(node.path),
            "metadata": metadata,
            "assume_metadata": True,
            "recheck_cached_data": "open",
        }
        ts.Spec(specification)
        _check_chunk_names(node, metadata, len(shape))
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise VolumeFormatError(f"{node.path}: no readable {node.driver} array: {reason}") from error
    axes = tuple(range(len(shape)))
    if node.driver == "n5":
        shape, chunks, axes = shape[::-1], chunks[::-1], axes[::-1]
    return StoredArray(node.path, shape, chunks, dtype, cache or NO_CACHE, specification, axes)


def open_scale(
    group: ZarrNode,
    key: str,
    index: int,
    shape: Sequence[int],
    chunks: Sequence[int],
    dtype: np.dtype[Any],
    cache: ChunkCache | None,
) -> StoredArray:
    """Open a scale of a precomputed volume as (channel, z, y, x).

    Args:
        group: the volume.
        key: the name of the scale's folder.
        index: the scale's place in the list.
        shape: channels and voxels.
        chunks: of the same axes.
        dtype: of the voxels.
        cache: keeps decoded chunks; by default nothing is kept.
    """
    specification = {"driver": _PRECOMPUTED, "kvstore": key_value_store(group.path), "scale_index": index}
    axes = tuple(range(len(shape)))[::-1]
    return StoredArray(
        join(group.path, key), tuple(shape), tuple(chunks), dtype, cache or NO_CACHE, specification, axes
    )


def _supported(driver: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of an array as tensorstore understands them.

    Raises:
        ValueError: they are not complete.
    """
    # tensorstore would fill in its own idea of what is absent
    if absent := [key for key in _ARRAY_METADATA[driver] if key not in metadata]:
        raise VolumeFormatError(f"{', '.join(absent)} missing in its metadata")
    if driver == "zarr3" and not metadata["codecs"]:
        raise VolumeFormatError("its list of codecs is empty")
    metadata = dict(metadata)
    compressor = metadata.get("compressor")
    if driver == "zarr" and isinstance(compressor, dict) and compressor.get("id") == "zstd":
        # numcodecs notes whether there are checksums, tensorstore knows no such setting: zstd finds them by itself
        metadata["compressor"] = {key: value for key, value in compressor.items() if key != "checksum"}
    return metadata


def _check_chunk_names(node: ZarrNode, metadata: Mapping[str, Any], dims: int) -> None:
    """Refuse a local array whose chunks have other names than its metadata say: all of it would be read as empty.

    Raises:
        VolumeFormatError: it is one.
    """
    local = local_path(node.path)
    if local is None or dims < 2 or node.driver == "n5":
        return
    field, before = "dimension_separator", ""
    separator = metadata.get(field) or "."
    if node.driver == "zarr3":
        encoding = metadata["chunk_key_encoding"]
        default = encoding.get("name") == "default"
        field, before = "chunk_key_encoding", "c" if default else ""
        separator = encoding.get("configuration", {}).get("separator", "/" if default else ".")
    flat, nested = (rf"{before}\.(\d+\.)*\d+", before) if before else (r"\d+(\.\d+)+", r"\d+")
    names: set[str] = set()
    if local.is_dir():
        with os.scandir(local) as entries:
            names = {entry.name for entry in itertools.islice(entries, _NAMES)}
    found = {mark for mark, form in ((".", flat), ("/", nested)) if any(re.fullmatch(form, name) for name in names)}
    if found and separator not in found:
        raise VolumeFormatError(
            f"its {field} says that {separator!r} is between the numbers in the names of chunks, and it is "
            f"{found.pop()!r}: correct its metadata"
        )


def _layout(driver: str, metadata: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]:
    """Return shape, chunks and native dtype of a stored array, axes as they are stored."""
    if driver == "zarr":
        shape, chunks, dtype = metadata["shape"], metadata["chunks"], metadata["dtype"]
    elif driver == "zarr3":
        shape, dtype = metadata["shape"], metadata["data_type"]
        chunks = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    else:
        shape, chunks, dtype = metadata["dimensions"], metadata["blockSize"], metadata["dataType"]
    numbers = np.dtype(dtype)
    if numbers.kind not in "biuf":
        raise VolumeFormatError(f"its dtype is {dtype!r}; volumes hold whole numbers, floats or booleans")
    return tuple(map(int, shape)), tuple(map(int, chunks)), numbers.newbyteorder("=")
