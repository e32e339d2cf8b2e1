"""OME-Zarr 0.4, 0.5 and 0.6: the one module that knows their metadata.

Positions in a file name voxel *centres*. Version 0.4 is zarr of format 2, with the metadata in ``.zattrs``, and
version 0.5 zarr of format 3, with the same metadata below "ome" in the attributes of ``zarr.json``. Version 0.6 has
several coordinate systems: positions are those in the intrinsic one, to which the levels' own transformations lead.

Sources of the format: https://ngff.openmicroscopy.org/0.4, https://ngff.openmicroscopy.org/0.5 and
https://ngff.openmicroscopy.org/rfc/5.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.geometry import format_size
from scalenet_gp.pictures import as_bytes, class_colors
from scalenet_gp.volumes.axes import served_axes
from scalenet_gp.volumes.location import StrPath, join
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
    nanometres,
    number,
)
from scalenet_gp.volumes.storage import ZarrNode, find_node, open_array

__all__ = [
    "WrittenVersion",
    "channel_names",
    "is_ome_zarr",
    "level_names",
    "multiscale_attributes",
    "multiscale_groups",
    "read_ome_zarr",
]

WrittenVersion = Literal["0.4", "0.5"]
"""The versions that are written: in zarr of format 2, and of format 3."""


def is_ome_zarr(node: ZarrNode) -> bool:
    """Return True if this is a group with OME-Zarr metadata of an image."""
    return node.driver != "n5" and node.array is None and "multiscales" in _ome(node)


def level_names(node: ZarrNode) -> tuple[str, ...]:
    """Return the paths of the levels of a multiscale group.

    Raises:
        VolumeFormatError: malformed metadata.
    """
    return tuple(dataset.path.strip("/") for dataset in _multiscale(node)[0].datasets)


def read_ome_zarr(node: ZarrNode, options: ReadOptions, level: str | None = None) -> VolumeMetadata:
    """Read and check the metadata of a multiscale group.

    Args:
        node: a node for which :func:`is_ome_zarr` is True.
        options: the options of reading; positions name centres unless they say otherwise.
        level: one of :func:`level_names`, to read this level alone; the others need not be there.

    Raises:
        FileNotFoundError: a level that the metadata names is missing.
        ValueError: malformed metadata, or levels whose corners disagree, or options that do not fit.
    """
    path = node.path
    multiscale, omero = _multiscale(node)
    if level is not None:
        datasets = [dataset for dataset in multiscale.datasets if dataset.path.strip("/") == level]
        multiscale = multiscale.model_copy(update={"datasets": datasets})
    names = [axis.name for axis in multiscale.axes]
    channel = next((axis.name for axis in multiscale.axes if axis.type == "channel" or axis.name == "c"), None)
    stored = [open_array(join(path, dataset.path), options.cache) for dataset in multiscale.datasets]
    labels = [entry.label or "" for entry in omero.channels] if omero else []
    spatial, arrays = served_axes(path, names, channel, stored, options.select, labels)
    for axis in multiscale.axes[-len(spatial) :]:
        if axis.type not in (None, "space"):
            raise VolumeFormatError(
                f"{path}: malformed OME-Zarr metadata: axis {axis.name} is of type {axis.type!r}; it has to be 'space'"
            )
    units = [
        nanometres(f"{path}: malformed OME-Zarr metadata: axis {axis.name}", axis.unit, options.unit)
        for axis in multiscale.axes[-len(spatial) :]
    ]

    def levels(translation: Translation | None) -> tuple[Level, ...]:
        return tuple(
            _level(path, multiscale, dataset, array.shape, units, translation)
            for dataset, array in zip(multiscale.datasets, arrays, strict=True)
        )

    result = consistent_levels(path, levels, options.translation or "centre")
    if any(math.prod(b.voxel_size) < math.prod(a.voxel_size) for a, b in pairwise(result)):
        order = ", ".join(f"{level.path} of {format_size(level.voxel_size)} nm" for level in result)
        raise VolumeFormatError(f"{path}: the levels are {order}; they have to be listed from fine to coarse")
    check_arrays(path, result, arrays)
    check_stated(path, "its OME-Zarr metadata", result[0].voxel_size, options.voxel_size)
    channels = arrays[0].shape[0] if arrays[0].ndim > len(spatial) else None
    return VolumeMetadata(spatial, channels, arrays[0].dtype, result, arrays)


def multiscale_attributes(
    name: str,
    axes: Sequence[str],
    levels: Sequence[Level],
    channels: Sequence[str],
    dtype: np.dtype[Any],
    version: WrittenVersion = "0.4",
) -> dict[str, Any]:
    """Return the attributes of a multiscale group, which :func:`read_ome_zarr` reads back as ``levels``, exactly.

    Args:
        name: the name of the image.
        axes: the names of the spatial axes.
        levels: the levels, from fine to coarse.
        channels: the names of the channels; none means no channel axis.
        dtype: the dtype of the voxels, from which viewers get the range of values.
        version: the version of the format.

    Raises:
        ArgumentError: a length cannot be stored, since it is not a decimal of twelve digits.
    """
    leading = [1.0] * bool(channels)
    axis_entries = [{"name": "c", "type": "channel"}] * bool(channels)
    datasets = []
    for level in levels:
        centre = [b + v / 2 for b, v in zip(level.begin, level.voxel_size, strict=True)]
        transformations = [
            {"type": "scale", "scale": leading + [_stored(length, level.path) for length in level.voxel_size]},
            {"type": "translation", "translation": [0.0 for _ in leading] + [_stored(x, level.path) for x in centre]},
        ]
        datasets.append({"path": level.path, "coordinateTransformations": transformations})
    attributes: dict[str, Any] = {
        "multiscales": [
            {
                **({"version": version} if version == "0.4" else {}),
                "name": name,
                "axes": axis_entries + [{"name": axis, "type": "space", "unit": "nanometer"} for axis in axes],
                "datasets": datasets,
            }
        ]
    }
    if channels:
        # the colors that pictures of predictions have
        high = float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
        window = {"min": 0.0, "start": 0.0, "end": high, "max": high}
        attributes["omero"] = {
            "channels": [
                {"label": label, "color": bytes(color).hex().upper(), "active": True, "window": window}
                for label, color in zip(channels, as_bytes(class_colors(len(channels))), strict=True)
            ]
        }
    return attributes if version == "0.4" else {"ome": {"version": version, **attributes}}


def channel_names(node: ZarrNode) -> tuple[str, ...]:
    """Return the labels of the channels; none where the metadata does not name them."""
    try:
        omero = _Attributes.model_validate(_ome(node)).omero
    except ValidationError as error:
        raise malformed_error(node.path, "OME-Zarr metadata", error) from error
    return tuple(channel.label or "" for channel in omero.channels) if omero else ()


def multiscale_groups(path: StrPath) -> tuple[str, ...]:
    """Return the sorted names of the multiscale groups in the local folder ``path``, such as the classes of a crop."""
    nodes = ((entry.name, find_node(entry)) for entry in Path(path).iterdir() if entry.is_dir())
    return tuple(sorted(name for name, node in nodes if node is not None and is_ome_zarr(node)))


def _multiscale(node: ZarrNode) -> tuple[_Multiscale, _Omero | None]:
    """Return the image and its display settings.

    Raises:
        VolumeFormatError: malformed metadata, or several images that differ.
    """
    try:
        attributes = _Attributes.model_validate(_ome(node))
    except ValidationError as error:
        raise malformed_error(node.path, "OME-Zarr metadata", error) from error
    multiscale = attributes.multiscales[0]
    if any(other != multiscale for other in attributes.multiscales):
        raise VolumeFormatError(
            f"{node.path}: malformed OME-Zarr metadata: {len(attributes.multiscales)} multiscales that differ; there "
            "has to be one"
        )
    return multiscale, attributes.omero


def _stored(length: Fraction, where: str) -> float:
    """Return the JSON number that reads back as ``length``."""
    if number(float(length)) != length:
        raise ArgumentError(
            f"{where}: a length of {length} nm cannot be stored exactly: it is not a decimal of 12 digits"
        )
    return float(length)


def _as_release(version: Any) -> Any:
    return "0.6" if isinstance(version, str) and re.match(r"0\.6\W?(dev|rc)", version) else version


_Version = Annotated[Literal["0.4", "0.5", "0.6"], BeforeValidator(_as_release)]
"""A version that is read; of 0.6 its drafts too."""


class _Axis(BaseModel):
    name: str
    type: str | None = None
    unit: str | None = None


class _Scale(BaseModel):
    type: Literal["scale"]
    scale: tuple[Number, ...]


class _Translate(BaseModel):
    type: Literal["translation"]
    translation: tuple[Number, ...]


_Transformations = list[Annotated[_Scale | _Translate, Field(discriminator="type")]]


class _Dataset(BaseModel):
    path: str
    coordinateTransformations: _Transformations


class _Multiscale(BaseModel):
    version: _Version | None = None
    axes: list[_Axis]
    datasets: list[_Dataset] = Field(min_length=1)
    coordinateTransformations: _Transformations | None = None

    @model_validator(mode="before")
    @classmethod
    def _intrinsic(cls, values: Any) -> Any:
        """Bring coordinate systems into the form of the versions before: the axes of the intrinsic one.

        The transformations of the image lead from there to other systems.
        """
        if not isinstance(values, dict) or "coordinateSystems" not in values:
            return values
        stored = _Systems.model_validate(values)
        lists = [dataset.get("coordinateTransformations") for dataset in stored.datasets]
        outputs = {_output(steps[0]) for steps in lists if isinstance(steps, list) and steps}
        if len(outputs) > 1:
            raise ValueError(f"the levels lead to several coordinate systems: {', '.join(sorted(map(str, outputs)))}")
        wanted = next(iter(outputs), None) or stored.coordinateSystems[0].name
        axes = next((system.axes for system in stored.coordinateSystems if system.name == wanted), None)
        if axes is None:
            known = ", ".join(system.name for system in stored.coordinateSystems)
            raise ValueError(f"the levels lead to the coordinate system {wanted!r}; there are {known}")
        datasets = [
            {**dataset, "coordinateTransformations": list(_unpacked(steps)) if isinstance(steps, list) else steps}
            for dataset, steps in zip(stored.datasets, lists, strict=True)
        ]
        kept = {key: value for key, value in values.items() if key != "coordinateTransformations"}
        return {**kept, "axes": axes, "datasets": datasets}


class _System(BaseModel):
    name: str
    axes: list[_Axis]


class _Systems(BaseModel):
    coordinateSystems: list[_System] = Field(min_length=1)
    datasets: list[dict[str, Any]]


def _output(step: Any) -> str | None:
    """Return the name of the coordinate system to which a transformation leads."""
    output = step.get("output") if isinstance(step, dict) else None
    return output.get("name") if isinstance(output, dict) else output


def _unpacked(steps: list[Any]) -> Iterator[Any]:
    """Yield the transformations that a sequence consists of, in order, without those that change nothing."""
    for step in steps:
        kind = step.get("type") if isinstance(step, dict) else None
        if kind == "sequence" and isinstance(step.get("transformations"), list):
            yield from _unpacked(step["transformations"])
        elif kind != "identity":
            yield step


class _Channel(BaseModel):
    label: str | None = None


class _Omero(BaseModel):
    channels: list[_Channel] = []


class _Attributes(BaseModel):
    version: _Version | None = None
    multiscales: list[_Multiscale] = Field(min_length=1)
    omero: _Omero | None = None


def _ome(node: ZarrNode) -> dict[str, Any]:
    """Return the attributes that OME-Zarr defines; some writers of zarr 3 put them where those of zarr 2 do."""
    if "ome" not in node.attributes:
        return {key: value for key, value in node.attributes.items() if key != "version"}  # there it is the user's
    ome = node.attributes["ome"]
    return ome if isinstance(ome, dict) else {}


def _level(
    path: str,
    multiscale: _Multiscale,
    dataset: _Dataset,
    shape: Sequence[int],
    units: Sequence[Fraction],
    translation: Translation | None,
) -> Level:
    dims, total = len(units), len(multiscale.axes)
    inner = _scale_and_translation(f"{path}: {dataset.path}", dataset.coordinateTransformations, total)
    outer = _scale_and_translation(f"{path}: the group", multiscale.coordinateTransformations or None, total)
    voxel_size = [u * a * b for u, a, b in zip(units, outer[0][-dims:], inner[0][-dims:], strict=True)]
    # the group's transformation comes after the level's own
    position = [
        u * (s * t + g) for u, s, t, g in zip(units, outer[0][-dims:], inner[1][-dims:], outer[1][-dims:], strict=True)
    ]
    if translation == "centre":
        position = [p - v / 2 for p, v in zip(position, voxel_size, strict=True)]
    return Level(dataset.path, tuple(shape[-dims:]), tuple(voxel_size), tuple(position))


def _scale_and_translation(
    where: str, transformations: _Transformations | None, length: int
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """A level must have a scale, a group need not say anything (None)."""
    one, zero = (Fraction(1),) * length, (Fraction(0),) * length
    if transformations is None:
        return one, zero
    kinds = [transformation.type for transformation in transformations]
    if kinds not in (["scale"], ["scale", "translation"]):
        raise VolumeFormatError(
            f"{where}: malformed OME-Zarr metadata: the coordinateTransformations are {kinds}; "
            "they have to be one scale, then at most one translation"
        )
    scale, translation = one, zero
    for transformation in transformations:
        if isinstance(transformation, _Scale):
            values = scale = transformation.scale
        else:
            values = translation = transformation.translation
        if len(values) != length:
            raise VolumeFormatError(
                f"{where}: malformed OME-Zarr metadata: the {transformation.type} has {len(values)} entries "
                f"for {length} axes"
            )
    if any(factor <= 0 for factor in scale):
        raise VolumeFormatError(
            f"{where}: malformed OME-Zarr metadata: the scale {format_size(scale)} has to be positive"
        )
    return scale, translation
