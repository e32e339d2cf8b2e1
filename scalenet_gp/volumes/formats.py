"""Recognition of the format of the volume at a path, and its metadata."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.volumes.array_attributes import Geometry, geometries_of, require_agreement
from scalenet_gp.volumes.axes import served_axes
from scalenet_gp.volumes.level_groups import level_geometries, level_nodes
from scalenet_gp.volumes.location import StrPath, local_path
from scalenet_gp.volumes.metadata import (
    Level,
    ReadOptions,
    Translation,
    VolumeMetadata,
    check_arrays,
    consistent_levels,
)
from scalenet_gp.volumes.ome_zarr import is_ome_zarr, multiscale_groups, read_ome_zarr
from scalenet_gp.volumes.storage import ZarrNode, array_of, find_node

__all__ = ["read_volume"]


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
    node = find_node(path)
    if node is None:
        node = ZarrNode(
            str(path), "n5", {}, None
        )  # a group of N5 need not have metadata, and a URL none to be found by
        if not level_nodes(node):
            raise FileNotFoundError(f"{path}: no such multiscale group")
    if is_ome_zarr(node):
        return read_ome_zarr(node, options)
    return _read_arrays(node, options)


@dataclass(frozen=True, slots=True)
class _Described:
    """A level, with its geometry by the attributes of its array and its group."""

    name: str
    node: ZarrNode
    geometry: Geometry

    def corner(self, finest: Geometry, translation: Translation | None) -> tuple[Fraction, ...]:
        """Return the corner of the first voxel; without a position, zero by the convention of the attribute."""
        corner = self.geometry.corner(translation)
        if corner is not None:
            return corner
        if (translation or self.geometry.names) == "corner":
            return (Fraction(0),) * len(self.geometry.voxel_size)
        # for N5 viewers it is the centre of the finest level's first voxel that lies at zero
        reference = finest if self.geometry.names == "centre" else self.geometry
        return tuple(-v / 2 for v in reference.voxel_size)


def _read_arrays(node: ZarrNode, options: ReadOptions) -> VolumeMetadata:
    """Read a volume whose arrays have attributes with their positions."""
    described = _described_array(node, options) if node.array is not None else _described_group(node, options)
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


def _described_array(node: ZarrNode, options: ReadOptions) -> list[_Described]:
    return [_Described(".", node, require_agreement(node.path, geometries_of(node, options), options.translation))]


def _described_group(group: ZarrNode, options: ReadOptions) -> list[_Described]:
    described: list[_Described] = []
    for index, (name, level) in enumerate(level_nodes(group).items()):
        finest = described[0].geometry if described else None
        found = level_geometries(group, index, level, finest, options)
        described.append(_Described(name, level, require_agreement(level.path, found, options.translation)))
    if not described:
        local = local_path(group.path)
        below = ", ".join(multiscale_groups(local)) if local is not None else ""
        raise VolumeFormatError(
            f"{group.path}: a group without OME-Zarr metadata ('multiscales') and without arrays s0, s1, ..."
            + (f"; multiscale groups below it: {below}" if below else "")
        )
    return described
