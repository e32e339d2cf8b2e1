"""Stored arrays and groups: zarr of format 2 and 3, N5, and neuroglancer's precomputed volumes, local or behind a URL.

Voxels are read and written through tensorstore; the metadata, small JSON files, are read directly. zarr-python only
creates groups and arrays of zarr format 2, as OME-Zarr 0.4 demands, and this is the one module that hides its version 2
from its version 3. Metadata of zarr format 3, which OME-Zarr 0.5 demands, are written directly: zarr-python 2 cannot.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import tensorstore as ts
import zarr
from numcodecs import Blosc

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.volumes.location import (
    StrPath,
    begin_bulk_reads,
    join,
    key_value_store,
    local_path,
    read_json,
    tensorstore_context,
)

__all__ = [
    "ChunkCache",
    "StoredArray",
    "UnreadableDataError",
    "UnwritableDataError",
    "ZarrNode",
    "create_array",
    "create_array_3",
    "create_group",
    "create_group_3",
    "create_parents",
    "find_node",
    "group_attributes",
    "open_array",
    "open_scale",
    "update_attributes",
]

_NAMES = 64
"""Names of files that are looked at to see how chunks are named."""

_ZARR_2 = int(zarr.__version__.split(".")[0]) < 3

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", "info", "attributes.json")
_PRECOMPUTED: Literal["neuroglancer_precomputed"] = "neuroglancer_precomputed"
_ARRAY_METADATA = {
    "zarr": ("shape", "chunks", "dtype", "compressor", "filters", "fill_value", "order"),
    "zarr3": ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "codecs", "fill_value"),
    "n5": ("dimensions", "blockSize", "dataType", "compression"),
}


class UnreadableDataError(OSError):
    """A stored chunk cannot be read or decoded."""


class UnwritableDataError(OSError):
    """A chunk cannot be stored: the disk is full, say."""


@final
class ChunkCache:
    """Keep the decoded chunks that were used last in memory, for all volumes opened with this cache.

    Kept chunks are not compared with the stored ones again. Every process has its own chunks, up to the limit: in
    another process the cache arrives empty.

    Args:
        limit: bytes, in every process.

    Raises:
        ArgumentError: ``limit`` is negative.

    Example:
        >>> ChunkCache(2**28)
        ChunkCache(268435456)
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ArgumentError(f"a chunk cache of {limit} bytes: it has to be at least 0")
        self.limit = limit

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def __repr__(self) -> str:
        return f"ChunkCache({self.limit})"

    @cached_property
    def context(self) -> ts.Context:
        """The settings for tensorstore."""
        return tensorstore_context(self.limit)


_NO_CACHE = ChunkCache(0)


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


@final
@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array that was opened: see :func:`open_array`.

    Nothing is read before the first voxel is asked for, in each process by itself: an array can be sent to another
    process at any time, and goes into a forked one as long as nothing was read before.

    Args:
        path: or URL.
        shape: voxels; the axes of N5, which stores x, y, z, are served in reverse order: z, y, x.
        chunks: voxels that are stored together, along the same axes.
        dtype: of the voxels, in native byte order.
        cache: that keeps decoded chunks.
    """

    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    cache: ChunkCache
    _specification: dict[str, Any] = field(repr=False)
    _axes: tuple[int, ...] = field(repr=False)  # which stored axis each one is
    _fixed: tuple[tuple[int, int], ...] = field(repr=False, default=())  # stored axes of which one index is read

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def at(self, selected: Mapping[int, int]) -> StoredArray:
        """Return the array at one index (value) of some of its axes (key), which it then lacks."""
        kept = [axis for axis in range(self.ndim) if axis not in selected]
        return replace(
            self,
            shape=tuple(self.shape[axis] for axis in kept),
            chunks=tuple(self.chunks[axis] for axis in kept),
            _axes=tuple(self._axes[axis] for axis in kept),
            _fixed=self._fixed + tuple((self._axes[axis], index) for axis, index in selected.items()),
        )

    def start(self, box: Sequence[slice]) -> Callable[[], np.ndarray]:
        """Start to read a box of voxels, one slice per axis. Call the returned function to wait for them.

        Raises:
            UnreadableDataError: a chunk cannot be read, is truncated, or cannot be decoded; now or then.
            RuntimeError: see :func:`~scalenet_gp.volumes.bulk_reads_begun`.
        """
        begin_bulk_reads(self.path)
        place = self._place(box)

        def unreadable(error: Exception) -> UnreadableDataError:
            return UnreadableDataError(f"{self.path}: voxels {place} cannot be read: {error}")

        def finish() -> np.ndarray:
            try:
                return np.asarray(future.result())
            except Exception as error:  # every codec has its own kind of complaint
                raise unreadable(error) from error

        try:
            future = place.of(self._store).read(order="C")
        except Exception as error:
            raise unreadable(error) from error
        return finish

    def write(self, box: Sequence[slice], data: np.ndarray) -> None:
        """Store a box of voxels, one slice per axis; they are on the disk when this returns.

        A chunk is replaced as a whole: a reader meanwhile, or after this process was killed, finds the old
        one or the new one. Several processes can write at once: one that fills a chunk in part merges it with what is
        stored. A chunk of zeros takes no file.

        Args:
            box: one slice per axis.
            data: of the shape of the box and the dtype of the array.

        Raises:
            UnwritableDataError: a chunk cannot be stored, or one that is filled in part cannot be decoded.
            RuntimeError: see :func:`~scalenet_gp.volumes.bulk_reads_begun`.
        """
        begin_bulk_reads(self.path)
        place = self._place(box)
        try:
            place.of(self._writable_store).write(np.ascontiguousarray(data)).result()
        except Exception as error:
            raise UnwritableDataError(f"{self.path}: voxels {place} cannot be written: {error}") from error

    def __getitem__(self, box: slice | tuple[slice, ...]) -> np.ndarray:
        """Read the voxels of a box. Raises as :meth:`start`."""
        parts = box if isinstance(box, tuple) else (box,)
        return self.start(parts + (slice(None),) * (self.ndim - len(parts)))()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_store", "_writable_store")}

    @cached_property
    def _store(self) -> ts.TensorStore:
        return self._opened(self.cache)

    @cached_property
    def _writable_store(self) -> ts.TensorStore:
        # without a cache: what is merged with a chunk is what is stored now
        return self._opened(_NO_CACHE, write=True)

    def _opened(self, cache: ChunkCache, write: bool = False) -> ts.TensorStore:
        store = ts.open(ts.Spec(self._specification), read=True, write=write, context=cache.context).result()
        return store[ts.d[:].translate_to[0]]  # precomputed volumes count voxels from their offset

    def _place(self, box: Sequence[slice]) -> _Place:
        parts = tuple(slice(*part.indices(length)[:2]) for part, length in zip(box, self.shape, strict=True))
        index = dict(zip(self._axes, parts, strict=True)) | dict(self._fixed)
        stored = sorted(self._axes)
        return _Place(
            parts, tuple(index[axis] for axis in sorted(index)), tuple(stored.index(axis) for axis in self._axes)
        )


@dataclass(frozen=True, slots=True)
class _Place:
    """A box of an array, and where it is stored."""

    box: tuple[slice, ...]
    index: tuple[slice | int, ...]
    order: tuple[int, ...]

    def of(self, store: ts.TensorStore) -> ts.TensorStore:
        """Return this part of the array, axes in the order of reading."""
        return store[self.index].transpose(self.order)

    def __str__(self) -> str:
        return f"[{', '.join(f'{part.start}:{part.stop}' for part in self.box)}]"


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
    return StoredArray(node.path, shape, chunks, dtype, cache or _NO_CACHE, specification, axes)


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
        join(group.path, key), tuple(shape), tuple(chunks), dtype, cache or _NO_CACHE, specification, axes
    )


def create_group(path: StrPath, attributes: Mapping[str, Any]) -> None:
    """Create a group of zarr format 2 at ``path``, which must not exist."""
    version = {} if _ZARR_2 else {"zarr_format": 2}
    zarr.open_group(str(path), mode="w-", **version).attrs.update(attributes)


def update_attributes(path: StrPath, attributes: Mapping[str, Any]) -> None:
    """Add attributes to the group at ``path``, or replace them."""
    zarr.open_group(str(path), mode="r+").attrs.update(attributes)


def create_array(path: StrPath, shape: Sequence[int], chunks: Sequence[int], dtype: np.dtype[Any]) -> Any:
    """Create an array of zeros to be written to at ``path``: zarr format 2, nested chunks, blosc-zstd.

    Probabilities take 1 to 6 % more than at level 5 of zstd, and less than half the time.
    """
    layout = {"shape": tuple(shape), "chunks": tuple(chunks), "dtype": dtype, "fill_value": 0}
    compressor = Blosc(cname="zstd", clevel=3, shuffle=Blosc.SHUFFLE)
    if _ZARR_2:
        return zarr.open_array(str(path), mode="w-", compressor=compressor, dimension_separator="/", **layout)
    encoding = {"name": "v2", "separator": "/"}
    return zarr.create_array(str(path), zarr_format=2, compressors=compressor, chunk_key_encoding=encoding, **layout)


def create_group_3(path: StrPath, attributes: Mapping[str, Any]) -> None:
    """Create a group of zarr format 3 at ``path``, which must not exist."""
    Path(path).mkdir(parents=True)
    _write_metadata(path, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)})


def create_array_3(
    path: StrPath, shape: Sequence[int], chunks: Sequence[int], dtype: np.dtype[Any], names: Sequence[str]
) -> None:
    """Create an array of zeros at ``path``: zarr format 3, blosc-zstd.

    Args:
        path: the path of the array.
        shape: the lengths of its axes.
        chunks: of a chunk.
        dtype: of the voxels.
        names: of the axes.
    """
    blosc = {"cname": "zstd", "clevel": 3, "shuffle": "shuffle", "typesize": dtype.itemsize, "blocksize": 0}
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if dtype.kind == "b" else 0.0 if dtype.kind == "f" else 0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "blosc", "configuration": blosc},
        ],
        "dimension_names": list(names),
        "attributes": {},
    }
    Path(path).mkdir(parents=True)
    _write_metadata(path, "zarr.json", metadata)


def create_parents(path: StrPath, zarr_format: Literal[2, 3] = 2) -> None:
    """Make the folders above ``path`` groups, from the nearest that is named ``*.zarr`` on; those that are stay so."""
    above = Path(path).absolute().parents
    top = next((index for index, folder in enumerate(above) if folder.suffix == ".zarr"), -1)
    for folder in above[top::-1] if top >= 0 else ():
        if not any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray")):
            folder.mkdir(parents=True, exist_ok=True)
            if zarr_format == 2:
                _write_metadata(folder, ".zgroup", {"zarr_format": 2})
            else:
                _write_metadata(folder, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": {}})


def _write_metadata(folder: StrPath, name: str, content: Mapping[str, Any]) -> None:
    (Path(folder) / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


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
