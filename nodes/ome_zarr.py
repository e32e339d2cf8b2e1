"""OME-Zarr 0.4: the one place that knows its metadata.

Numbers in the metadata are binary floats that somebody computed: 6.9 is often stored as 6.8999999999999995. They are
read as the decimals that they print as at twelve significant digits, and are exact rationals from there on. Positions
in a file name voxel *centres*; here every box begins at the *corner* of its first voxel (nm).

Source of the format: https://ngff.openmicroscopy.org/0.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, PlainValidator, ValidationError

from scalenet_gp.nodes.zarr_storage import StrPath, group_attributes, open_array
from scalenet_gp.world import exact, format_size

__all__ = [
    "Level",
    "MultiscaleMetadata",
    "Translation",
    "multiscale_attributes",
    "multiscale_groups",
    "read_multiscale",
]

Translation = Literal["centre", "corner"]
"""What the translations of a file name: voxel centres, as OME-Zarr says, or voxel corners (or nothing at all)."""

_NANOMETRES = {"angstrom": Fraction(1, 10), "nanometer": Fraction(1), "micrometer": Fraction(1000)}
_SPATIAL_AXES = (("z", "y", "x"), ("y", "x"))


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of a volume. All tuples are per spatial axis, in file order.

    Args:
        path: of the array, relative to the multiscale group.
        shape: voxels.
        voxel_size: nm.
        begin: the corner of the first voxel, nm.
    """

    path: str
    shape: tuple[int, ...]
    voxel_size: tuple[Fraction, ...]
    begin: tuple[Fraction, ...]

    @property
    def end(self) -> tuple[Fraction, ...]:
        """The far corner of the last voxel, nm."""
        return tuple(b + n * v for b, n, v in zip(self.begin, self.shape, self.voxel_size, strict=True))


@dataclass(frozen=True, slots=True)
class MultiscaleMetadata:
    """What a multiscale group says of itself.

    Args:
        axes: names of the spatial axes, ``("z", "y", "x")`` or ``("y", "x")``.
        channels: the length of the channel axis that comes first, None where there is none.
        dtype: of every level.
        levels: in file order, by the format from fine to coarse.
    """

    axes: tuple[str, ...]
    channels: int | None
    dtype: np.dtype[Any]
    levels: tuple[Level, ...]


def read_multiscale(path: StrPath, translation: Translation = "centre") -> MultiscaleMetadata:
    """Read and check the metadata of the multiscale group at ``path``.

    Args:
        path: of the group, for example ``vnc.zarr/recon-1/em/tem-uint8``.
        translation: what the file's translations name.

    Raises:
        FileNotFoundError: there is nothing at ``path``, or a level that the metadata names is missing.
        ValueError: no multiscale group, malformed metadata, or levels whose corners disagree.
    """
    if translation not in ("centre", "corner"):
        raise ValueError(f"translation={translation!r} has to be 'centre' or 'corner'")
    multiscale = _parse(path, group_attributes(path))
    spatial, units, channel_axis = _axes(path, multiscale.axes)
    arrays = [open_array(Path(path) / dataset.path) for dataset in multiscale.datasets]
    for dataset, array in zip(multiscale.datasets, arrays, strict=True):
        if array.ndim != len(multiscale.axes):
            raise ValueError(f"{path}: {dataset.path} has {array.ndim} dimensions, the axes are {len(multiscale.axes)}")
        if array.dtype != arrays[0].dtype or (channel_axis and array.shape[0] != arrays[0].shape[0]):
            raise ValueError(
                f"{path}: levels disagree in channels or dtype: {multiscale.datasets[0].path} is {arrays[0].dtype} of "
                f"shape {arrays[0].shape}, {dataset.path} is {array.dtype} of shape {array.shape}"
            )

    def levels(translation: Translation) -> tuple[Level, ...]:
        return tuple(
            _level(path, multiscale, dataset, array.shape, units, translation)
            for dataset, array in zip(multiscale.datasets, arrays, strict=True)
        )

    result = levels(translation)
    other: Translation = "corner" if translation == "centre" else "centre"
    if (fault := _disagreement(result)) is not None:
        remedy = f"; with translation={other!r} they would agree" if _disagreement(levels(other)) is None else ""
        raise ValueError(f"{path}: {fault}, read with translation={translation!r}{remedy}")
    return MultiscaleMetadata(spatial, arrays[0].shape[0] if channel_axis else None, arrays[0].dtype, result)


def multiscale_attributes(
    name: str, axes: Sequence[str], levels: Sequence[Level], channels: Sequence[str], dtype: np.dtype[Any]
) -> dict[str, Any]:
    """The attributes of a multiscale group: what :func:`read_multiscale` reads back as ``levels``, exactly.

    Args:
        name: of the image.
        axes: names of the spatial axes.
        levels: from fine to coarse.
        channels: names of the channels; none means no channel axis.
        dtype: of the voxels: gives viewers the range of values.

    Raises:
        ValueError: a length cannot be stored, since it is no decimal of twelve digits.
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
                "version": "0.4",
                "name": name,
                "axes": axis_entries + [{"name": axis, "type": "space", "unit": "nanometer"} for axis in axes],
                "datasets": datasets,
            }
        ]
    }
    if channels:
        high = float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
        window = {"min": 0.0, "start": 0.0, "end": high, "max": high}
        attributes["omero"] = {
            "channels": [{"label": label, "color": "FFFFFF", "active": True, "window": window} for label in channels]
        }
    return attributes


def multiscale_groups(path: StrPath) -> tuple[str, ...]:
    """The names of the multiscale groups right below ``path``, sorted: the classes of a crop, for example."""
    return tuple(sorted(entry.name for entry in Path(path).iterdir() if _is_multiscale(entry)))


def _number(value: object) -> Fraction:
    """A JSON number as the rational that its writer meant."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} should be a number")
    return exact(format(value, ".12g") if isinstance(value, float) else value)


def _stored(length: Fraction, where: str) -> float:
    """The JSON number that reads back as ``length``."""
    if _number(float(length)) != length:
        raise ValueError(f"{where}: a length of {length} nm cannot be stored exactly: it is no decimal of 12 digits")
    return float(length)


_Number = Annotated[Fraction, PlainValidator(_number)]


class _Axis(BaseModel):
    name: str
    type: str | None = None
    unit: str | None = None


class _Scale(BaseModel):
    type: Literal["scale"]
    scale: tuple[_Number, ...]


class _Translate(BaseModel):
    type: Literal["translation"]
    translation: tuple[_Number, ...]


_Transformations = list[Annotated[_Scale | _Translate, Field(discriminator="type")]]


class _Dataset(BaseModel):
    path: str
    coordinateTransformations: _Transformations


class _Multiscale(BaseModel):
    version: Literal["0.4"] | None = None
    axes: list[_Axis]
    datasets: list[_Dataset] = Field(min_length=1)
    coordinateTransformations: _Transformations | None = None


class _Attributes(BaseModel):
    multiscales: list[_Multiscale] = Field(min_length=1)


def _is_multiscale(path: Path) -> bool:
    return (path / ".zgroup").is_file() and "multiscales" in group_attributes(path)


def _parse(path: StrPath, attributes: Mapping[str, Any]) -> _Multiscale:
    if "multiscales" not in attributes:
        below = f"; multiscale groups below it: {', '.join(found)}" if (found := multiscale_groups(path)) else ""
        raise ValueError(f"{path}: a zarr group without OME-Zarr 0.4 metadata ('multiscales' in its .zattrs){below}")
    try:
        return _Attributes.model_validate(attributes).multiscales[0]
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ValueError(f"{path}: malformed OME-Zarr 0.4 metadata: {'; '.join(faults)}") from error


def _axes(path: StrPath, axes: Sequence[_Axis]) -> tuple[tuple[str, ...], tuple[Fraction, ...], bool]:
    """The names and units (nm) of the spatial axes, and whether a channel axis comes before them."""
    channel_axis = bool(axes) and (axes[0].type == "channel" or axes[0].name == "c")
    spatial = axes[channel_axis:]
    names = tuple(axis.name for axis in spatial)
    if names not in _SPATIAL_AXES:
        raise ValueError(
            f"{path}: malformed OME-Zarr metadata: the axes are {', '.join(axis.name for axis in axes)}; "
            "they have to be z, y, x or y, x, after at most one channel axis c"
        )
    for axis in spatial:
        if axis.unit not in _NANOMETRES:
            raise ValueError(
                f"{path}: malformed OME-Zarr metadata: axis {axis.name} has the unit {axis.unit!r}; "
                f"it has to be one of {', '.join(_NANOMETRES)}"
            )
    return names, tuple(_NANOMETRES[axis.unit] for axis in spatial if axis.unit), channel_axis


def _level(
    path: StrPath,
    multiscale: _Multiscale,
    dataset: _Dataset,
    shape: Sequence[int],
    units: Sequence[Fraction],
    translation: Translation,
) -> Level:
    dims, total = len(units), len(multiscale.axes)
    inner = _scale_and_translation(f"{path}: {dataset.path}", dataset.coordinateTransformations, total)
    outer = _scale_and_translation(f"{path}: the group", multiscale.coordinateTransformations, total)
    voxel_size = [u * a * b for u, a, b in zip(units, outer[0][-dims:], inner[0][-dims:], strict=True)]
    # the group's transformation comes after the level's own
    position = [
        u * (s * t + g) for u, s, t, g in zip(units, outer[0][-dims:], inner[1][-dims:], outer[1][-dims:], strict=True)
    ]
    if translation == "centre":
        position = [p - v / 2 for p, v in zip(position, voxel_size, strict=True)]
    return Level(dataset.path, tuple(int(n) for n in shape[-dims:]), tuple(voxel_size), tuple(position))


def _scale_and_translation(
    where: str, transformations: _Transformations | None, length: int
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """A level must have a scale, a group need not say anything (None)."""
    one, zero = (Fraction(1),) * length, (Fraction(0),) * length
    if transformations is None:
        return one, zero
    kinds = [transformation.type for transformation in transformations]
    if kinds not in (["scale"], ["scale", "translation"]):
        raise ValueError(
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
            raise ValueError(
                f"{where}: malformed OME-Zarr metadata: the {transformation.type} has {len(values)} entries "
                f"for {length} axes"
            )
    if any(factor <= 0 for factor in scale):
        raise ValueError(f"{where}: malformed OME-Zarr metadata: the scale {format_size(scale)} has to be positive")
    return scale, translation


def _disagreement(levels: Sequence[Level]) -> str | None:
    """How the corners of the levels contradict each other, None if they do not."""
    first = levels[0]
    for level in levels[1:]:
        if level.begin != first.begin:
            return f"the levels begin at different corners: {_corners(levels, 'begin')}"
        coarser = (max(pair) for pair in zip(first.voxel_size, level.voxel_size, strict=True))
        if any(abs(a - b) >= v for a, b, v in zip(first.end, level.end, coarser, strict=True)):
            return f"the levels end a voxel or more apart: {_corners(levels, 'end')}"
    return None


def _corners(levels: Iterable[Level], which: Literal["begin", "end"]) -> str:
    return ", ".join(
        f"{level.path} at {format_size(level.begin if which == 'begin' else level.end)} nm" for level in levels
    )
