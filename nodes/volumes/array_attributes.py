"""Voxel sizes and positions in the attributes of arrays: gunpowder's, funlib.persistence's, COSEM's and N5's own.

==================  ==========================================  =========================  ===================
attribute           written by                                  order of axes              positions name
==================  ==========================================  =========================  ===================
``resolution``      gunpowder, Paintera; ``offset`` beside it   z, y, x; in N5 x, y, z     corners
``voxel_size``      funlib.persistence; ``offset`` beside it    z, y, x, in N5 too         corners
``transform``       COSEM, OpenOrganelle                        its own "axes" and         centres
                                                                "order": z, y, x
``pixelResolution`` N5 viewers; times ``downsamplingFactors``   x, y, z                    (the first centre is 0)
==================  ==========================================  =========================  ===================

An array may carry several; they have to agree. Where no unit is given, ``resolution`` and ``voxel_size`` count in nm,
as both packages do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from scalenet_gp.nodes.volumes.metadata import Number, ReadOptions, Translation, malformed, nanometres
from scalenet_gp.nodes.volumes.storage import Node
from scalenet_gp.world import format_size

__all__ = ["Geometry", "agreed", "factors_of", "geometries_of", "transform_geometry"]

_Lengths = tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Geometry:
    """What one attribute says of the voxels of an array: nm, in the order z, y, x.

    Args:
        source: the name of the attribute.
        voxel_size: nm.
        position: of the first voxel; None if the attribute says nothing of it.
        names: whether the position is that of the voxel's centre or corner, by the attribute's convention.
    """

    source: str
    voxel_size: _Lengths
    position: _Lengths | None
    names: Translation

    def corner(self, translation: Translation | None) -> _Lengths | None:
        """Of the first voxel, if positions are read so; None: by the attribute's convention."""
        if self.position is None or (translation or self.names) == "corner":
            return self.position
        return tuple(p - v / 2 for p, v in zip(self.position, self.voxel_size, strict=True))

    def scaled(self, path: str, factors: _Lengths) -> Geometry:
        """Of the array at ``path``, whose voxels are whole blocks of these.

        Raises:
            ValueError: other axes.
        """
        if len(factors) != len(self.voxel_size):
            raise ValueError(
                f"{path}: downsampling factors of {len(factors)} axes for {self.source} of {len(self.voxel_size)}"
            )
        position = self.position
        if position is not None and self.names == "centre":
            position = tuple(p + (f - 1) * v / 2 for p, f, v in zip(position, factors, self.voxel_size, strict=True))
        size = _times(self.voxel_size, factors)
        return Geometry(f"{self.source} times the downsampling factors", size, position, self.names)


def geometries_of(node: Node, options: ReadOptions) -> tuple[Geometry, ...]:
    """All that the attributes of an array say, or those of a group for its first array.

    Raises:
        ValueError: malformed attributes, or an offset that belongs to nothing.
    """
    path, attributes, is_n5 = node.path, node.attributes, node.driver == "n5"
    readers = _READERS if is_n5 else {name: read for name, read in _READERS.items() if name != "pixelResolution"}
    if "offset" in attributes and not {"voxel_size", "resolution"} & attributes.keys():
        raise ValueError(f"{path}: an 'offset' belongs to a 'resolution' or 'voxel_size', and there is neither")
    return tuple(read(path, attributes, is_n5, options) for name, read in readers.items() if name in attributes)


def agreed(path: str, geometries: Sequence[Geometry], translation: Translation | None) -> Geometry:
    """The one that says most; all have to say the same.

    Raises:
        ValueError: they contradict each other, or there is none.
    """
    if not geometries:
        raise ValueError(
            f"{path}: no voxel size: neither OME-Zarr metadata nor any of the attributes resolution, voxel_size, "
            "transform and, for N5, pixelResolution"
        )
    best = next((geometry for geometry in geometries if geometry.position is not None), geometries[0])
    for other in geometries:
        if other.voxel_size != best.voxel_size:
            raise ValueError(
                f"{path}: {best.source} says voxels of {format_size(best.voxel_size)} nm (z, y, x), {other.source} "
                f"of {format_size(other.voxel_size)} nm; remove the one that is wrong"
            )
        here, there = best.corner(translation), other.corner(translation)
        if here is not None and there is not None and here != there:
            raise ValueError(
                f"{path}: {best.source} says that the first voxel begins at {format_size(here)} nm (z, y, x), "
                f"{other.source} at {format_size(there)} nm; remove the one that is wrong"
            )
    return best


def transform_geometry(path: str, attributes: Mapping[str, Any], _: bool, options: ReadOptions) -> Geometry:
    """COSEM's: scale and translation of named axes."""
    try:
        stored = _Transform.model_validate(attributes["transform"])
    except ValidationError as error:
        raise malformed(path, "transform", error) from error
    # the order says how all of it is listed, F being that of N5
    step = -1 if stored.order == "F" else 1
    axes, units = stored.axes[::step], stored.units[::step]
    scale, translate = stored.scale[::step], stored.translate[::step]
    if tuple(axes) not in (("z", "y", "x"), ("y", "x")):
        raise ValueError(
            f"{path}: the axes of its transform are {', '.join(stored.axes)} in order {stored.order or 'C'!r}; they "
            "have to be z, y, x or y, x (or reversed in order 'F')"
        )
    if not len(axes) == len(units) == len(scale) == len(translate):
        raise ValueError(
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
    """gunpowder's: in N5 the other way round."""
    step = -1 if is_n5 else 1
    unit = nanometres(f"{path}: resolution", None, options.unit or "nanometer")
    size = _numbers(path, "resolution", attributes["resolution"])[::step]
    sizes = _sizes(path, "resolution", [v * unit for v in size])
    return Geometry("resolution", sizes, _offset(path, attributes, [unit] * len(size), step), "corner")


def _pixel_resolution(path: str, attributes: Mapping[str, Any], _: bool, options: ReadOptions) -> Geometry:
    """N5's: x, y, z and a unit, or x, y, z alone. Next to downsampling factors it is that of the finest level."""
    stored = attributes["pixelResolution"]
    try:
        entry = _PixelResolution.model_validate({"dimensions": stored} if isinstance(stored, list) else stored)
    except ValidationError as error:
        raise malformed(path, "pixelResolution", error) from error
    unit = nanometres(f"{path}: pixelResolution", entry.unit, options.unit)
    finest = Geometry(
        "pixelResolution", _sizes(path, "pixelResolution", [v * unit for v in entry.dimensions[::-1]]), None, "centre"
    )
    factors = factors_of(path, attributes)
    return finest if factors is None else finest.scaled(path, factors)


def factors_of(path: str, attributes: Mapping[str, Any]) -> _Lengths | None:
    """The ``downsamplingFactors`` of an N5 array, z, y, x; None if it has none."""
    if "downsamplingFactors" not in attributes:
        return None
    numbers = _numbers(path, "downsamplingFactors", attributes["downsamplingFactors"])
    return _sizes(path, "downsamplingFactors", numbers[::-1])


def _voxel_size(path: str, attributes: Mapping[str, Any], _: bool, options: ReadOptions) -> Geometry:
    """funlib.persistence's: of the physical axes, after those of channels; each with a unit, which may be empty."""
    size = _numbers(path, "voxel_size", attributes["voxel_size"])
    types = attributes.get("types") or ["space"] * len(size)
    if types != ["channel"] * (len(types) - len(size)) + ["space"] * len(size):
        raise ValueError(
            f"{path}: the types of its axes are {types} for a voxel_size of {len(size)}; they have to be channel, if "
            "there is such an axis, then space"
        )
    names = (attributes.get("axis_names") or [])[-len(size) :]
    if names != sorted(names, reverse=True) and set(names) <= {"x", "y", "z"}:
        raise ValueError(f"{path}: the axis_names are {', '.join(names)}; they have to be z, y, x")
    units = attributes.get("units") or [None] * len(size)
    if len(units) != len(size):
        raise ValueError(f"{path}: {len(units)} units for a voxel_size of {len(size)} axes")
    lengths = [nanometres(f"{path}: voxel_size", u, options.unit or (None if u else "nanometer")) for u in units]
    sizes = _sizes(path, "voxel_size", _times(size, lengths))
    return Geometry("voxel_size", sizes, _offset(path, attributes, lengths, 1), "corner")


def _offset(path: str, attributes: Mapping[str, Any], units: Sequence[Fraction], step: int) -> _Lengths | None:
    if "offset" not in attributes:
        return None
    offset = _numbers(path, "offset", attributes["offset"])[::step]
    if len(offset) != len(units):
        raise ValueError(f"{path}: an offset of {len(offset)} axes for voxels of {len(units)}")
    return _times(offset, units)


def _numbers(path: str, name: str, value: object) -> _Lengths:
    try:
        return _NUMBERS.validate_python(value)
    except ValidationError as error:
        raise malformed(path, name, error) from error


def _sizes(path: str, name: str, sizes: Sequence[Fraction]) -> _Lengths:
    if len(sizes) not in (2, 3) or min(sizes) <= 0:
        raise ValueError(f"{path}: malformed {name}: {format_size(sizes)} has to be 2 or 3 positive numbers")
    return tuple(sizes)


def _times(values: Sequence[Fraction], units: Sequence[Fraction]) -> _Lengths:
    return tuple(value * unit for value, unit in zip(values, units, strict=True))


_NUMBERS: TypeAdapter[_Lengths] = TypeAdapter(tuple[Number, ...])


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
    "pixelResolution": _pixel_resolution,
}
