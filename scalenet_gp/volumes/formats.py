"""Recognition of the format of the volume at a path, and its metadata."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.geometry import format_size
from scalenet_gp.volumes.array_attributes import Geometry, geometries_of, require_agreement
from scalenet_gp.volumes.axes import served_axes
from scalenet_gp.volumes.found_instead import describe_absence
from scalenet_gp.volumes.level_groups import geometries_in_group, level_geometries, level_nodes
from scalenet_gp.volumes.location import StrPath, local_path, parent, read_json
from scalenet_gp.volumes.metadata import (
    Level,
    ReadOptions,
    Translation,
    VolumeMetadata,
    check_arrays,
    consistent_levels,
)
from scalenet_gp.volumes.ome_zarr import is_ome_zarr, level_names, read_ome_zarr
from scalenet_gp.volumes.precomputed import is_precomputed, read_precomputed, scale_keys
from scalenet_gp.volumes.storage import ZarrNode, array_of, find_node

__all__ = ["read_volume", "volumes_below"]

_ABOVE = 4
"""Folders above an array in which an OME-Zarr group may list it."""


def read_volume(path: StrPath, options: ReadOptions | None = None) -> VolumeMetadata:
    """Read and check the metadata of the volume at ``path``, in whatever format it is.

    Args:
        path: path or URL of a group of levels or of a single array.
        options: the options of reading.

    Raises:
        FileNotFoundError: there is nothing at ``path``, or a level that its metadata names is missing.
        VolumeFormatError: no volume; metadata that are malformed, incomplete or contradict each other; or levels that
            disagree.
        ArgumentError: options that do not fit.
    """
    options = options or ReadOptions()
    path = os.fspath(path).removeprefix("precomputed://")
    node = find_node(path)
    bare = node is None or (node.array is None and not node.attributes)
    if bare and (scale := _scale_of(path)) is not None:
        return read_precomputed(scale[0], options, scale[1])
    if node is None:
        # a group of N5 need not have metadata, and a URL none to be found by
        node = ZarrNode(str(path), "n5", {}, None)
        if not level_nodes(node):
            there = describe_absence(path)
            raise FileNotFoundError(f"{path}: no such multiscale group" + (f"; {there}" if there else ""))
    if node.array is not None:
        return _read_array(node, options)
    if is_precomputed(node):
        return read_precomputed(node, options)
    if is_ome_zarr(node):
        return _agreeing_with_n5(node, read_ome_zarr(node, options), options)
    return _read_arrays(node, _described_group(node, options), options)


def _agreeing_with_n5(node: ZarrNode, metadata: VolumeMetadata, options: ReadOptions) -> VolumeMetadata:
    """Return the metadata of a zarr group, unless those of N5 beside them contradict them."""
    local = local_path(node.path)
    if local is None or not (local / "attributes.json").is_file():
        return metadata
    attributes = read_json(local, ["attributes.json"])["attributes.json"]
    if not isinstance(attributes, dict):
        return metadata
    own = {name: value for name, value in attributes.items() if name != "downsamplingFactors"}
    size = metadata.levels[0].voxel_size
    for geometry in geometries_of(ZarrNode(node.path, "n5", own, None), replace(options, voxel_size=None)):
        if geometry.voxel_size != size:
            raise VolumeFormatError(
                f"{node.path}: its OME-Zarr metadata say voxels of {format_size(size)} nm, and {geometry.source} in "
                f"attributes.json of {format_size(geometry.voxel_size)} nm (z, y, x); remove the one that is wrong"
            )
    return metadata


def volumes_below(path: StrPath) -> tuple[str, ...]:
    """Return the sorted names of the volumes of any format in the local folder ``path``: the classes of a crop, say."""
    nodes = ((entry.name, find_node(entry)) for entry in Path(path).iterdir() if entry.is_dir())
    return tuple(sorted(name for name, node in nodes if node is not None and _is_volume(node)))


def _is_volume(node: ZarrNode) -> bool:
    """Return True if a node looks like a volume; whether its metadata can be read is another question."""
    if node.array is not None or is_ome_zarr(node) or is_precomputed(node):
        return True
    try:
        return bool(level_nodes(node))
    except (OSError, VolumeFormatError):
        return True


def _scale_of(path: str) -> tuple[ZarrNode, str] | None:
    """Return the precomputed volume of which a path names a scale, and the scale's name."""
    above = parent(path)
    node = None if above is None else _group_at(above[0])
    if above is None or node is None or not is_precomputed(node) or above[1] not in scale_keys(node):
        return None
    return node, above[1]


def _group_at(path: str, tolerant: bool = True) -> ZarrNode | None:
    """Return the group at a path above a volume.

    Args:
        path: the path or URL.
        tolerant: take files that cannot be read for none: a server may refuse to tell of folders above what it shares,
            and folders further above may hold anything.
    """
    try:
        node = find_node(path)
    except (OSError, VolumeFormatError):
        if not tolerant:
            raise
        return None
    return None if node is None or node.array is not None else node


def _read_array(node: ZarrNode, options: ReadOptions) -> VolumeMetadata:
    """Read an array: by the OME-Zarr group that lists it, else by its own attributes and those of its group."""
    found: tuple[Geometry, ...] | None = None
    local, another = local_path(node.path) is not None, ""
    above, name = parent(node.path), ""
    for distance in range(_ABOVE):
        if above is None:
            break
        group = _group_at(above[0], tolerant=distance > 0 or not local)
        name = f"{above[1]}/{name}".rstrip("/")
        if group is not None and is_ome_zarr(group):
            if name in level_names(group):
                return _agreeing(node, read_ome_zarr(group, options, name), options)
            another = f"the OME-Zarr group {group.path} lists {', '.join(level_names(group))}, not {name}, and "
            break
        if found is None:  # the folder that holds the array
            ours = group is not None and (group.driver == "n5") == (node.driver == "n5")
            found = geometries_in_group(group, node, name, options) if group is not None and ours else None
            found = geometries_of(node, options) if found is None else found
        above = parent(above[0])
    if found is None:
        found = geometries_of(node, options)
    if not found and another:
        raise VolumeFormatError(
            f"{node.path}: no voxel size: {another}the array has none of the attributes resolution, voxel_size and "
            "transform; open a level that is listed, or state it in nm, for example voxel_size=[40, 4, 4]"
        )
    geometry = require_agreement(node.path, found, options.translation)
    return _read_arrays(node, [_Described(".", node, geometry)], options)


def _agreeing(node: ZarrNode, metadata: VolumeMetadata, options: ReadOptions) -> VolumeMetadata:
    """Return the metadata of one level of OME-Zarr, which the array's own attributes must not contradict.

    Raises:
        VolumeFormatError: they do.
    """
    level = replace(metadata.levels[0], path=".")
    stated = {"resolution", "voxel_size", "transform", "scale"} & node.attributes.keys()
    for own in geometries_of(node, replace(options, voxel_size=None)) if stated else ():
        centre = tuple(b + v / 2 for b, v in zip(level.begin, level.voxel_size, strict=True))
        if own.voxel_size != level.voxel_size or own.position not in (None, level.begin, centre):
            place = "" if own.position is None else f" from {format_size(own.position)} nm on"
            raise VolumeFormatError(
                f"{node.path}: its {own.source} says voxels of {format_size(own.voxel_size)} nm{place} (z, y, x), the "
                f"group's OME-Zarr metadata of {format_size(level.voxel_size)} nm from the corner "
                f"{format_size(level.begin)} nm on; remove the one that is wrong, or open the group"
            )
    return replace(metadata, levels=(level,))


@dataclass(frozen=True, slots=True)
class _Described:
    """A level, with its geometry by the attributes of its array and its group."""

    name: str
    node: ZarrNode
    geometry: Geometry

    def corner(self, finest: Geometry, translation: Translation | None) -> tuple[Fraction, ...]:
        """Return the corner of the first voxel; without a position, the corner or the first centre is at zero."""
        corner = self.geometry.corner(translation)
        if corner is not None:
            return corner
        if (translation or self.geometry.names) == "corner":
            return (Fraction(0),) * len(self.geometry.voxel_size)
        # it is the centre of the finest level's first voxel that lies at zero, as N5 viewers have it
        return tuple(-v / 2 for v in finest.voxel_size)


def _read_arrays(node: ZarrNode, described: Sequence[_Described], options: ReadOptions) -> VolumeMetadata:
    """Read a volume of arrays whose voxel sizes are known."""
    finest = described[0].geometry
    dims = len(finest.voxel_size)
    stored = [array_of(level.node, options.cache) for level in described]
    for level, array in zip(described, stored, strict=True):
        if array.ndim - len(level.geometry.voxel_size) not in (0, 1) or array.ndim != stored[0].ndim:
            raise VolumeFormatError(
                f"{array.path} has {array.ndim} dimensions and a voxel size of {len(level.geometry.voxel_size)}; it "
                f"can have one axis of channels more, and {stored[0].path} has {stored[0].ndim} and {dims}"
            )
    names = ("c",) * (stored[0].ndim - dims) + ("z", "y", "x")[-dims:]
    spatial, arrays = served_axes(node.path, names, "c", stored, options.select)

    def levels(translation: Translation | None) -> tuple[Level, ...]:
        return tuple(
            Level(level.name, array.shape[-dims:], level.geometry.voxel_size, level.corner(finest, translation))
            for level, array in zip(described, arrays, strict=True)
        )

    result = consistent_levels(node.path, levels, options.translation)
    check_arrays(node.path, result, arrays)
    channels = arrays[0].shape[0] if arrays[0].ndim > dims else None
    return VolumeMetadata(spatial, channels, arrays[0].dtype, result, arrays)


def _described_group(group: ZarrNode, options: ReadOptions) -> list[_Described]:
    described: list[_Described] = []
    for index, (name, level) in enumerate(level_nodes(group).items()):
        finest = described[0].geometry if described else None
        found = level_geometries(group, index, level, finest, options)
        described.append(_Described(name, level, require_agreement(level.path, found, options.translation)))
    if not described:
        local = local_path(group.path)
        below = ", ".join(volumes_below(local)) if local is not None else ""
        there = f"multiscale groups below it: {below}" if below else describe_absence(group.path)
        raise VolumeFormatError(
            f"{group.path}: a group without OME-Zarr metadata ('multiscales') and without arrays s0, s1, ..."
            + (f"; {there}" if there else "")
        )
    return described
