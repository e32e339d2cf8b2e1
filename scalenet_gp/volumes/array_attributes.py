"""Voxel sizes and positions in the attributes of arrays: gunpowder's, funlib.persistence's, COSEM's and N5's own.

==================  ==========================================  =========================  ===================
attribute           written by                                  order of axes              positions name
==================  ==========================================  =========================  ===================
``resolution``      gunpowder, Paintera; ``offset`` beside it   z, y, x; in N5 x, y, z     corners
``voxel_size``      funlib.persistence; ``offset`` beside it    z, y, x, in N5 too         corners
``scale``           zarr arrays of older writers, as above      z, y, x                    corners
``transform``       COSEM, OpenOrganelle                        its own "axes" and         centres
                                                                "order": z, y, x
``pixelResolution`` N5 viewers; times ``downsamplingFactors``;  x, y, z                    corners
                    ``offset`` beside it
==================  ==========================================  =========================  ===================

An array may carry several; they have to agree. Without a position, every level begins at the corner 0, as neuroglancer
and worldarray place it. ``units``, ``axis_names`` and ``types`` beside ``resolution``, ``voxel_size`` or ``scale`` are
listed in the same order, a unit of all axes may be written once; where no unit is given, these three count in nm, as
gunpowder and funlib.persistence do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.geometry import format_size
from scalenet_gp.volumes.metadata import (
    Number,
    ReadOptions,
    Translation,
    check_stated,
    malformed_error,
    nanometres,
)
from scalenet_gp.volumes.storage import ZarrNode

__all__ = ["Geometry", "factors_of", "geometries_of", "require_agreement", "transform_geometry"]

_Lengths = tuple[Fraction, ...]

_CURE = (
    "; state it in nm, for example voxel_size=[40, 4, 4], or bring the array in with scalenet-gp import --voxel-size"
)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Voxel size and position of an array, as one attribute gives them: nm, in the order z, y, x.

    Args:
        source: the name of the attribute.
        voxel_size: nm.
        position: the position of the first voxel; None if the attribute does not give it.
        names: the point that the position names by the attribute's convention: the voxel's "centre" or "corner".
    """

    source: str
    voxel_size: _Lengths
    position: _Lengths | None
    names: Translation

    def corner(self, translation: Translation | None) -> _Lengths | None:
        """Return the corner of the first voxel, for positions that name ``translation``; None means by convention."""
        if self.position is None or (translation or self.names) == "corner":
            return self.position
        return tuple(p - v / 2 for p, v in zip(self.position, self.voxel_size, strict=True))

    def scaled(self, path: str, factors: _Lengths) -> Geometry:
        """Return the geometry of the array at ``path``, whose voxels are whole blocks of these.

        Raises:
            VolumeFormatError: the factors have other axes.
        """
        if len(factors) != len(self.voxel_size):
            raise VolumeFormatError(
                f"{path}: downsampling factors of {len(factors)} axes for {self.source} of {len(self.voxel_size)}"
            )
        position = self.position
        if position is not None and self.names == "centre":
            position = tuple(p + (f - 1) * v / 2 for p, f, v in zip(position, factors, self.voxel_size, strict=True))
        size = _times(self.voxel_size, factors)
        return Geometry(f"{self.source} times the downsampling factors", size, position, self.names)


def geometries_of(node: ZarrNode, options: ReadOptions) -> tuple[Geometry, ...]:
    """Return the geometry by each attribute of an array, or of a group for its first array.

    Raises:
        ValueError: malformed attributes, axes in another order, or an offset that belongs to nothing.
    """
    path, attributes, is_n5 = node.path, node.attributes, node.driver == "n5"
    foreign = {"scale"} if is_n5 else {"pixelResolution"}
    if node.array is None:
        foreign.add("scale")  # of a group it is the scale to other groups
    readers = {name: read for name, read in _READERS.items() if name in attributes and name not in foreign}
    stated = None if node.array is None else options.voxel_size
    if "offset" in attributes and not readers.keys() - {"transform"} and stated is None:
        raise VolumeFormatError(
            f"{path}: an 'offset' belongs to a 'resolution' or 'voxel_size', and there is neither{_CURE}"
        )
    found = tuple(read(path, attributes, is_n5, options) for read in readers.values())
    if stated is not None and not found:
        position = _offset(path, attributes, (Fraction(1),) * len(stated), -1 if is_n5 else 1)
        found = (Geometry("voxel_size", stated, position, "corner"),)
    for geometry in found:
        check_stated(path, geometry.source, geometry.voxel_size, stated)
    names = _dimension_names(node)
    for geometry in found:
        _check_names(path, "dimension_names", names, len(geometry.voxel_size))
    return found


def require_agreement(path: str, geometries: Sequence[Geometry], translation: Translation | None) -> Geometry:
    """Return the geometry with a position, if any; all have to agree.

    Raises:
        ValueError: they contradict each other, or there is none.
    """
    if not geometries:
        raise VolumeFormatError(
            f"{path}: no voxel size: neither OME-Zarr metadata nor any of the attributes resolution, voxel_size, "
            f"transform and, for N5, pixelResolution{_CURE}"
        )
    best = next((geometry for geometry in geometries if geometry.position is not None), geometries[0])
    for other in geometries:
        if other.voxel_size != best.voxel_size:
            raise VolumeFormatError(
                f"{path}: {best.source} says voxels of {format_size(best.voxel_size)} nm (z, y, x), {other.source} "
                f"of {format_size(other.voxel_size)} nm; remove the one that is wrong"
            )
        here, there = best.corner(translation), other.corner(translation)
        if here is not None and there is not None and here != there:
            raise VolumeFormatError(
                f"{path}: {best.source} says that the first voxel begins at {format_size(here)} nm (z, y, x), "
                f"{other.source} at {format_size(there)} nm; remove the one that is wrong"
            )
    return best


def transform_geometry(path: str, attributes: Mapping[str, Any], _: bool, options: ReadOptions) -> Geometry:
    """Read COSEM's attribute: scale and translation of named axes."""
    try:
        stored = _Transform.model_validate(attributes["transform"])
    except ValidationError as error:
        raise malformed_error(path, "transform", error) from error
    # the order says how all of it is listed, F being that of N5
    step = -1 if stored.order == "F" else 1
    axes, units = stored.axes[::step], stored.units[::step]
    scale, translate = stored.scale[::step], stored.translate[::step]
    if tuple(axes) not in (("z", "y", "x"), ("y", "x")):
        raise VolumeFormatError(
            f"{path}: the axes of its transform are {', '.join(stored.axes)} in order {stored.order or 'C'!r}; they "
            "have to be z, y, x or y, x (or reversed in order 'F')"
        )
    if not len(axes) == len(units) == len(scale) == len(translate):
        raise VolumeFormatError(
            f"{path}: malformed transform: {len(axes)} axes, {len(units)} units, {len(scale)} scales and "
            f"{len(translate)} translations"
        )
    lengths = [
        nanometres(f"{path}: transform: axis {axis}", unit, options.unit)
        for axis, unit in zip(axes, units, strict=True)
    ]
    size = _sizes(path, "transform", _times(scale, lengths))
    return Geometry("transform", size, _times(translate, lengths), "centre")


def _resolution(path: str, attributes: Mapping[str, Any], is_n5: bool, options: ReadOptions) -> Geometry:
    """Read gunpowder's attribute, whose axes are reversed in N5."""
    return _named_axes(path, "resolution", attributes, -1 if is_n5 else 1, options)


def _pixel_resolution(path: str, attributes: Mapping[str, Any], _: bool, options: ReadOptions) -> Geometry:
    """Read N5's attribute: x, y, z with or without a unit; beside downsampling factors that of the finest level."""
    stored = attributes["pixelResolution"]
    try:
        entry = _PixelResolution.model_validate({"dimensions": stored} if isinstance(stored, list) else stored)
    except ValidationError as error:
        raise malformed_error(path, "pixelResolution", error) from error
    unit = nanometres(f"{path}: pixelResolution", entry.unit, options.unit)
    sizes = _sizes(path, "pixelResolution", [v * unit for v in entry.dimensions[::-1]])
    position = _offset(path, attributes, (unit,) * len(sizes), -1)
    finest = Geometry("pixelResolution", sizes, position, "corner")
    factors = factors_of(path, attributes)
    return finest if factors is None else finest.scaled(path, factors)


def factors_of(path: str, attributes: Mapping[str, Any]) -> _Lengths | None:
    """Return the ``downsamplingFactors`` of an N5 array, z, y, x; None if it has none."""
    if "downsamplingFactors" not in attributes:
        return None
    numbers = _numbers(path, "downsamplingFactors", attributes["downsamplingFactors"])
    return _sizes(path, "downsamplingFactors", numbers[::-1])


def _voxel_size(path: str, attributes: Mapping[str, Any], _: bool, options: ReadOptions) -> Geometry:
    """Read funlib.persistence's attribute: the spatial axes, each with a unit, which may be empty."""
    return _named_axes(path, "voxel_size", attributes, 1, options)


def _scale(path: str, attributes: Mapping[str, Any], _: bool, options: ReadOptions) -> Geometry:
    """Read an older name of the voxel size."""
    return _named_axes(path, "scale", attributes, 1, options)


def _named_axes(path: str, source: str, attributes: Mapping[str, Any], step: int, options: ReadOptions) -> Geometry:
    """Read an attribute that units, names and types of axes may accompany; ``step`` is -1 if all are x, y, z."""
    size = _numbers(path, source, attributes[source])[::step]
    if isinstance(attributes.get("units"), str):  # one for all axes
        attributes = {**attributes, "units": [attributes["units"]] * len(size)}
    try:
        axes = _Axes.model_validate(attributes)
    except ValidationError as error:
        raise malformed_error(path, f"description of the axes of its {source}", error) from error
    names = axes.axis_names or []
    # funlib's mark of a channel is the last letter of its name
    derived = ["channel" if name.endswith("^") or name.lower() == "c" else "space" for name in names]
    types = axes.types or derived or ["space"] * len(size)
    if types[::step] != ["channel"] * (len(types) - len(size)) + ["space"] * len(size):
        order = ("channel, if there is such an axis, then space", "space, then channel if there is such an axis")
        raise VolumeFormatError(
            f"{path}: the types of its axes are {types} for a {source} of {len(size)}; they have to be "
            f"{order[step == -1]}"
        )
    _check_names(path, "axis_names", names, len(size), step)
    units = (axes.units or [axes.unit] * len(size))[::step]
    if len(units) != len(size):
        raise VolumeFormatError(f"{path}: {len(units)} units for a {source} of {len(size)} axes")
    lengths = [nanometres(f"{path}: {source}", u, options.unit or (None if u else "nanometer")) for u in units]
    if axes.unit and {nanometres(f"{path}: {source}", axes.unit, options.unit)} != set(lengths):
        raise VolumeFormatError(
            f"{path}: its unit {axes.unit!r} contradicts its units {units}; remove the one that is wrong"
        )
    sizes = _sizes(path, source, _times(size, lengths))
    return Geometry(source, sizes, _offset(path, attributes, lengths, step), "corner")


def _dimension_names(node: ZarrNode) -> list[str | None]:
    """Return the names of the axes by zarr 3; each may be None."""
    try:
        return _NAMES.validate_python((node.array or {}).get("dimension_names")) or []
    except ValidationError as error:
        raise malformed_error(node.path, "dimension_names", error) from error


def _check_names(path: str, source: str, names: Sequence[str | None], dims: int, step: int = 1) -> None:
    """Refuse spatial axes in another order than z, y, x. Other names are ignored."""
    known = [(name or "").lower() for name in names[::step]]
    leading, space = known[: max(len(known) - dims, 0)], known[-dims:]
    spatial = {"z", "y", "x"}
    if spatial & set(leading) or (spatial & set(space) and space != ["z", "y", "x"][-dims:]):
        raise VolumeFormatError(
            f"{path}: the {source} are {', '.join(map(str, names))} for voxels of {dims} axes; they have to be "
            f"{', '.join((['channel'] * len(leading) + ['z', 'y', 'x'][-dims:])[::step])}"
        )


def _offset(path: str, attributes: Mapping[str, Any], units: Sequence[Fraction], step: int) -> _Lengths | None:
    if "offset" not in attributes:
        return None
    offset = _numbers(path, "offset", attributes["offset"])[::step]
    if len(offset) != len(units):
        raise VolumeFormatError(f"{path}: an offset of {len(offset)} axes for voxels of {len(units)}")
    return _times(offset, units)


def _numbers(path: str, name: str, value: object) -> _Lengths:
    try:
        return _NUMBERS.validate_python(value)
    except ValidationError as error:
        raise malformed_error(path, name, error) from error


def _sizes(path: str, name: str, sizes: Sequence[Fraction]) -> _Lengths:
    if len(sizes) not in (2, 3) or min(sizes) <= 0:
        raise VolumeFormatError(f"{path}: malformed {name}: {format_size(sizes)} has to be 2 or 3 positive numbers")
    return tuple(sizes)


def _times(values: Sequence[Fraction], units: Sequence[Fraction]) -> _Lengths:
    return tuple(value * unit for value, unit in zip(values, units, strict=True))


_NUMBERS: TypeAdapter[_Lengths] = TypeAdapter(tuple[Number, ...])
_NAMES: TypeAdapter[list[str | None] | None] = TypeAdapter(list[str | None] | None)


class _Axes(BaseModel):
    axis_names: list[str] | None = None
    types: list[str] | None = None
    units: list[str | None] | None = None
    unit: str | None = None


class _Transform(BaseModel):
    order: Literal["C", "F"] | None = None
    axes: list[str]
    units: list[str | None]
    scale: list[Number]
    translate: list[Number]


class _PixelResolution(BaseModel):
    dimensions: list[Number]
    unit: str | None = None


_READERS: dict[str, Callable[[str, Mapping[str, Any], bool, ReadOptions], Geometry]] = {
    "transform": transform_geometry,
    "voxel_size": _voxel_size,
    "resolution": _resolution,
    "scale": _scale,
    "pixelResolution": _pixel_resolution,
}
