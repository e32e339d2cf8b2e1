"""The metadata of a volume on disk, whatever its format.

Numbers in metadata are binary floats that somebody computed: 6.9 is often stored as 6.8999999999999995. They are read
as the decimals that they print as at twelve significant digits, those of single precision as the shortest decimal that
prints them, and are exact rationals from there on. Positions are nm, and every box begins at the *corner* of its first
voxel; each format's reader converts its own convention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import PlainValidator, ValidationError

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.geometry import exact, format_size
from scalenet_gp.options import reword, show_value
from scalenet_gp.volumes.stored_array import ChunkCache

__all__ = [
    "Level",
    "Number",
    "ReadOptions",
    "Translation",
    "VolumeMetadata",
    "VoxelArray",
    "check_arrays",
    "check_stated",
    "consistent_levels",
    "malformed_error",
    "nanometres",
    "number",
]

Translation = Literal["centre", "corner"]
"""The points that the positions in a file name: voxel centres or voxel corners."""

_NANOMETRES = {
    "picometer": (Fraction(1, 1000), ("picometre", "pm")),
    "angstrom": (Fraction(1, 10), ("ångström", "å")),
    "nanometer": (Fraction(1), ("nanometre", "nm")),
    "micrometer": (Fraction(1000), ("micrometre", "micron", "um", "µm", "μm")),  # the sign micro, and the letter mu
    "millimeter": (Fraction(10**6), ("millimetre", "mm")),
    "meter": (Fraction(10**9), ("metre", "m")),
}
_NO_LENGTHS = ("pixel", "pixels", "px", "voxel", "voxels", "vx", "arbitrary", "unknown", "none")
_ROUNDING = Fraction(1, 10**5)  # of a voxel: what single precision leaves of pyramids down to 64 times the finest voxel
_UNITS = {name: length for key, (length, others) in _NANOMETRES.items() for name in (key, *others)}


class VoxelArray(Protocol):
    """The array of a level: stored, or in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The numbers of voxels, after the number of channels if there is a channel axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the voxels, in native byte order."""

    def start(self, box: Sequence[slice]) -> Callable[[], np.ndarray]:
        """Start to read a box of voxels, one slice per axis. Call the returned function to wait for them."""


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of a volume. All tuples are per spatial axis, in the order z, y, x.

    Args:
        path: the path of the array, relative to the volume; "." if the volume is an array.
        shape: voxels.
        voxel_size: nm.
        begin: the corner of the first voxel, nm.

    Example:
        >>> from fractions import Fraction
        >>> Level("s0", (10, 20), (Fraction(8), Fraction("4.6")), (Fraction(0), Fraction(0))).end
        (Fraction(80, 1), Fraction(92, 1))
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
class VolumeMetadata:
    """The metadata of a volume.

    Args:
        axes: names of the spatial axes, ``("z", "y", "x")`` or ``("y", "x")``.
        channels: the length of the channel axis that comes first, None where there is none.
        dtype: the dtype of every level.
        levels: in file order, which is from fine to coarse.
        arrays: the arrays of the levels: (channel, z, y, x), or without the channel axis.
    """

    axes: tuple[str, ...]
    channels: int | None
    dtype: np.dtype[Any]
    levels: tuple[Level, ...]
    arrays: tuple[VoxelArray, ...]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The options of reading a volume: see :meth:`scalenet_gp.volumes.multiscale_image.MultiscaleImage.open`."""

    translation: Translation | None = None
    select: Mapping[str, int | str] = field(default_factory=dict)
    unit: str | None = None
    cache: ChunkCache | None = None
    voxel_size: tuple[Fraction, ...] | None = None

    def __post_init__(self) -> None:
        if self.translation not in (None, "centre", "corner"):
            raise ArgumentError(f"translation={self.translation!r} has to be None, 'centre' or 'corner'")
        if self.unit is not None:
            nanometres("the argument unit", self.unit, None)
        if self.voxel_size is not None and (len(self.voxel_size) not in (2, 3) or min(self.voxel_size) <= 0):
            raise ArgumentError(f"voxel_size={format_size(self.voxel_size)} nm has to be 2 or 3 positive lengths")


def number(value: object) -> Fraction:
    """Return a JSON number as the rational that its writer meant.

    Raises:
        VolumeFormatError: it is not a number, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise VolumeFormatError(f"{value!r} should be a number")
    if not isinstance(value, float):
        return exact(value)
    meant = exact(format(value, ".12g"))
    if meant == Fraction(value) or abs(value) > float(np.finfo(np.float32).max):
        return meant
    single = np.float32(value)
    # 3.77 in single precision is 3.7699999809265137
    return exact(str(single)) if float(single) == value else meant


Number = Annotated[Fraction, PlainValidator(number)]
"""A field of a pydantic model that is read by :func:`number`."""


def nanometres(what: str, unit: str | None, stated: str | None) -> Fraction:
    """Return the length of a unit, nm.

    Args:
        what: the name of the thing that has this unit, for messages.
        unit: as the file names it; None, empty, or such as "pixel" and "voxel" if it does not.
        stated: the unit that the user states for lengths without one.

    Raises:
        ValueError: no such unit of length, or none at all, or one that contradicts the one stated.
    """
    known = f"it has to be one of {', '.join(_NANOMETRES)}"
    named = (unit or "").strip()
    if named.lower() in _NO_LENGTHS:
        named = ""
    if not named and stated is None:
        but = f", only {unit!r}" if unit else ""
        raise VolumeFormatError(f"{what} has no unit{but}; state what it is counted in, for example unit='nanometer'")
    name = named or stated or ""
    length = _UNITS.get(name, _UNITS.get(name.lower()) if len(name) > 2 or name == "Å" else None)
    if length is None:
        raise VolumeFormatError(f"{what} has the unit {name!r}; {known}")
    if stated is not None and nanometres("the argument unit", stated, None) != length:
        raise VolumeFormatError(f"{what} has the unit {name!r}, and unit={stated!r} contradicts it: leave it out")
    return length


def malformed_error(path: str, what: str, error: ValidationError) -> ValueError:
    """Return the exception that names every fault in metadata that do not fit a model."""
    faults = []
    for fault in error.errors(include_url=False):
        field = ".".join(map(str, fault["loc"])) or "it"
        missing = fault["type"] == "missing"
        faults.append(
            f"{field} is missing" if missing else f"{field} is {show_value(fault['input'])}: {reword(fault['msg'])}"
        )
    return VolumeFormatError(f"{path}: malformed {what}: {'; '.join(faults)}")


def consistent_levels(
    path: str, read: Callable[[Translation | None], tuple[Level, ...]], translation: Translation | None
) -> tuple[Level, ...]:
    """Return the levels, which have to begin at one corner and to end within a voxel of each other.

    Corners are computed from rounded numbers: those within 1e-5 of the finer voxel are one, that of the first level.

    Args:
        path: the path of the volume, for messages.
        read: returns the levels for the point that positions are taken to name.
        translation: the point that positions are taken to name.

    Raises:
        VolumeFormatError: a level has no voxels, or the levels disagree. The message says if they would agree with
            positions read otherwise.
    """
    levels = read(translation)
    for level in levels:
        if 0 in level.shape:
            raise VolumeFormatError(f"{path}: {level.path} has no voxels: its shape is {level.shape}")
    if (fault := _disagreement(levels)) is not None:
        others: tuple[Translation, ...] = ("centre", "corner")
        fitting = [other for other in others if other != translation and _disagreement(read(other)) is None]
        remedy = f"; with translation={fitting[0]!r} they would agree" if fitting else ""
        raise VolumeFormatError(f"{path}: {fault}, read with translation={translation!r}{remedy}")
    return tuple(replace(level, begin=levels[0].begin) for level in levels)


def check_arrays(path: str, levels: Sequence[Level], arrays: Sequence[VoxelArray]) -> None:
    """Check that all levels have the same channels and dtype.

    Raises:
        ValueError: they do not.
    """
    first, channels = arrays[0], len(arrays[0].shape) - len(levels[0].shape)
    for level, array in zip(levels, arrays, strict=True):
        if array.dtype != first.dtype or array.shape[:channels] != first.shape[:channels]:
            raise VolumeFormatError(
                f"{path}: levels disagree in channels or dtype: {levels[0].path} is {first.dtype} of "
                f"shape {first.shape}, {level.path} is {array.dtype} of shape {array.shape}"
            )


def check_stated(path: str, source: str, found: Sequence[Fraction], stated: Sequence[Fraction] | None) -> None:
    """Check that the voxel size (nm) of a file is the one that the user states, if any.

    Raises:
        VolumeFormatError: it is not.
    """
    if stated is not None and tuple(found) != tuple(stated):
        lengths = ", ".join(format_size((length,)) for length in stated)
        raise VolumeFormatError(
            f"{path}: {source} says voxels of {format_size(found)} nm, and voxel_size=[{lengths}] contradicts it: "
            "leave it out"
        )


def _disagreement(levels: Sequence[Level]) -> str | None:
    """Describe how the corners of the levels contradict each other; None if they do not."""
    first = levels[0]
    for level in levels[1:]:
        finer = (min(pair) for pair in zip(first.voxel_size, level.voxel_size, strict=True))
        if any(abs(a - b) > _ROUNDING * v for a, b, v in zip(first.begin, level.begin, finer, strict=True)):
            return f"the levels begin at different corners: {_corners(levels, 'begin')}"
        coarser = (max(pair) for pair in zip(first.voxel_size, level.voxel_size, strict=True))
        if any(abs(a - b) >= v for a, b, v in zip(first.end, level.end, coarser, strict=True)):
            return f"the levels end a voxel or more apart: {_corners(levels, 'end')}"
    return None


def _corners(levels: Iterable[Level], which: Literal["begin", "end"]) -> str:
    return ", ".join(
        f"{level.path} at {format_size(level.begin if which == 'begin' else level.end)} nm" for level in levels
    )
