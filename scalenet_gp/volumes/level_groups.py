"""Groups of arrays s0, s1, ... with attributes about the arrays: N5's pyramids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import count
from typing import Any

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.volumes.array_attributes import (
    Geometry,
    factors_of,
    geometries_of,
    require_agreement,
    transform_geometry,
)
from scalenet_gp.volumes.location import join
from scalenet_gp.volumes.metadata import ReadOptions
from scalenet_gp.volumes.storage import ZarrNode, find_node

__all__ = ["geometries_in_group", "level_geometries", "level_nodes"]


def level_nodes(group: ZarrNode) -> dict[str, ZarrNode]:
    """Return the arrays of a group by name: those that COSEM's metadata name, else s0, s1, ... as far as they go.

    Raises:
        FileNotFoundError: one that the metadata name is missing.
        ValueError: malformed metadata.
    """
    named = [entry["path"] if isinstance(entry, Mapping) else entry for entry in _datasets(group)]
    names: Iterable[str] = named or (f"s{index}" for index in count())
    nodes: dict[str, ZarrNode] = {}
    for name in names:
        node = find_node(join(group.path, name))
        if node is None or node.array is None:
            if named:
                raise FileNotFoundError(f"{join(group.path, name)}: no such array")
            break
        nodes[name] = node
    return nodes


def level_geometries(
    group: ZarrNode, index: int, level: ZarrNode, finest: Geometry | None, options: ReadOptions
) -> tuple[Geometry, ...]:
    """Return the geometries of an array by its own attributes, by those of its group, and by downsampling factors.

    The group can hold COSEM's "multiscales", with a transform per array, the resolution of the finest array, and the
    factors to the others: "downsamplingFactors" or "scales", x, y, z per array.

    Args:
        group: the group of the array.
        index: the index of the array.
        level: the array.
        finest: the first array's geometry; None if this is the first.
        options: how to read.

    Raises:
        ValueError: malformed attributes, or those of the group contradict each other.
    """
    found = [*geometries_of(level, options if index == 0 else replace(options, voxel_size=None))]
    datasets = _datasets(group)
    if datasets and isinstance(datasets[index], Mapping) and "transform" in datasets[index]:
        found.append(transform_geometry(f"{group.path}: multiscales, {level.path}", datasets[index], True, options))
    # factors in the group's attributes are lists, one for each array
    attributes = {name: value for name, value in group.attributes.items() if name != "downsamplingFactors"}
    said = geometries_of(replace(group, attributes=attributes), options)
    base = require_agreement(group.path, said, options.translation) if said else None
    if base is None and finest is not None:
        # where the level itself says where it is, the finest one is of no account for that
        stated = any(geometry.position is not None for geometry in found)
        base = replace(finest, position=None) if stated else finest
    factors = None
    if group.driver == "n5":
        own = factors_of(level.path, level.attributes)
        factors = _listed_factors(group, index) if own is None else own
    if base is not None and factors is not None:
        found.append(base.scaled(level.path, factors))
    elif base is not None and index == 0:
        found.append(base)
    return tuple(found)


def geometries_in_group(group: ZarrNode, level: ZarrNode, name: str, options: ReadOptions) -> tuple[Geometry, ...]:
    """Return the geometries of one array of a group, whose other arrays need not be there.

    An array that is not one of the group's levels has its own attributes, or those of the group if it has none.

    Args:
        group: the group that holds the array.
        level: the array.
        name: its name in the group.
        options: how to read.

    Raises:
        ValueError: as :func:`level_geometries`.
    """
    names = [entry["path"] if isinstance(entry, Mapping) else entry for entry in _datasets(group)]
    if name in names:
        index = names.index(name)
    elif names or not re.fullmatch(r"s\d+", name):
        return geometries_of(level, options) or (() if names else geometries_of(group, options))
    else:
        index = int(name[1:])
    finest = None
    if index > 0:
        node = find_node(join(group.path, names[0] if names else "s0"))
        if node is not None and node.array is not None:
            found = level_geometries(group, 0, node, None, options)
            finest = require_agreement(node.path, found, options.translation) if found else None
    return level_geometries(group, index, level, finest, options)


def _listed_factors(group: ZarrNode, index: int) -> tuple[Fraction, ...] | None:
    for name in ("downsamplingFactors", "scales"):
        if (listed := group.attributes.get(name)) is not None:
            if not isinstance(listed, list) or len(listed) <= index:
                raise VolumeFormatError(f"{group.path}: malformed {name}: no factors for array {index} in {listed!r}")
            return factors_of(f"{group.path}: {name}", {"downsamplingFactors": listed[index]})
    return None


def _datasets(group: ZarrNode) -> list[Any]:
    """The entries of COSEM's "multiscales": objects with a path, or paths alone."""
    if "multiscales" not in group.attributes:
        return []
    try:
        datasets = list(group.attributes["multiscales"][0]["datasets"])
        names = [entry["path"] if isinstance(entry, Mapping) else entry for entry in datasets]
    except (KeyError, IndexError, TypeError) as error:
        raise VolumeFormatError(
            f"{group.path}: malformed multiscales: {error!r}; it has to list datasets with paths"
        ) from error
    if not names or not all(isinstance(name, str) for name in names):
        raise VolumeFormatError(f"{group.path}: malformed multiscales: the paths of its datasets are {names}")
    return datasets
