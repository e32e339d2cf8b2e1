"""World coordinates: integers inside, nanometres at the border.

gunpowder and funlib.geometry count in integers and drop fractions without a word. So a physical size enters as an
exact rational, one *world unit* is chosen in which every voxel size is a whole number, and the conversion happens only
where files are read and written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import LatticeError

__all__ = ["Length", "World", "common_unit", "exact", "exact_size", "format_size"]

Length = int | float | str | Fraction
"""A physical length as a user writes it: ``4.6``, ``"4.6"``, ``"23/5"`` and ``Fraction(23, 5)`` are the same."""


def exact(length: Length) -> Fraction:
    """The rational that a user meant: a float counts as the decimal that it prints as.

    Raises:
        ValueError: ``length`` is no finite number.
    """
    try:
        return Fraction(str(length))
    except (ValueError, ZeroDivisionError) as error:
        raise LatticeError(f"{length!r} is no finite length; write a number such as 8, 4.6 or '23/5'") from error


def exact_size(lengths: Iterable[Length]) -> tuple[Fraction, ...]:
    """:func:`exact` per axis."""
    return tuple(exact(length) for length in lengths)


def format_size(lengths: Iterable[Fraction]) -> str:
    """``50 × 4.6 × 4.6``: for messages and tables."""
    return " × ".join(format(float(length), ".12g") for length in lengths)


def common_unit(sizes: Iterable[Iterable[Length]]) -> Fraction:
    """The largest unit of the form 1/n nm in which every one of ``sizes`` (nm) is a whole number of units.

    Whole nanometres stay nanometres: the unit of 8 and 128 nm is 1 nm; that of 50 and 4.6 nm is 1/5 nm.
    """
    return Fraction(1, math.lcm(*(exact(length).denominator for size in sizes for length in size)))


@dataclass(frozen=True, slots=True)
class World:
    """The integer coordinate system that the arrays of one pipeline share.

    Args:
        unit: nanometres per world unit.
        origin: the physical position (nm, per spatial axis) of world coordinate zero. Voxel corners lie on multiples of
            the voxel size from here. OME-Zarr files whose first voxel *centre* is at 0 have their corner at minus half
            a voxel: that is then the origin. Empty means zero on every axis.
    """

    unit: Fraction = Fraction(1)
    origin: tuple[Fraction, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", exact(self.unit))
        object.__setattr__(self, "origin", exact_size(self.origin))
        if self.unit <= 0:
            raise LatticeError(f"the world unit is {self.unit} nm; it has to be positive")

    def size(self, nanometres: Iterable[Length], what: str = "size") -> Coordinate:
        """A physical size (nm) in world units.

        Raises:
            ValueError: an entry is no whole number of world units. ``what`` names it in the message.
        """
        lengths = exact_size(nanometres)
        units = [length / self.unit for length in lengths]
        if any(unit.denominator != 1 for unit in units):
            fitting = common_unit([lengths, [self.unit]])
            raise LatticeError(
                f"{what} {format_size(lengths)} nm is no whole number of world units of {self.unit} nm; "
                f"a world unit of {fitting} nm would fit"
            )
        return Coordinate(int(unit) for unit in units)

    def position(self, nanometres: Iterable[Length], what: str = "position") -> Coordinate:
        """A physical position (nm) in world coordinates.

        Raises:
            ValueError: the distance from the origin is no whole number of world units.
        """
        position = exact_size(nanometres)
        return self.size((p - o for p, o in zip(position, self._origin(len(position)), strict=True)), what)

    def roi(self, begin: Iterable[Length], shape: Iterable[Length], what: str = "ROI") -> Roi:
        """The world ROI of a physical box: ``begin`` and ``shape`` in nm, of voxel *corners*."""
        return Roi(self.position(begin, f"{what} begin"), self.size(shape, f"{what} shape"))

    def size_in_nm(self, size: Coordinate) -> tuple[Fraction, ...]:
        """The physical size (nm) of a size in world units."""
        return tuple(int(length) * self.unit for length in size)

    def position_in_nm(self, position: Coordinate) -> tuple[Fraction, ...]:
        """The physical position (nm) of a world coordinate."""
        size = self.size_in_nm(position)
        return tuple(o + s for o, s in zip(self._origin(len(size)), size, strict=True))

    def _origin(self, dims: int) -> tuple[Fraction, ...]:
        if not self.origin:
            return (Fraction(0),) * dims
        if len(self.origin) != dims:
            raise LatticeError(f"the world's origin has {len(self.origin)} axes, this has {dims}")
        return self.origin
