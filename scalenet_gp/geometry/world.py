"""World coordinates: integers inside, nanometers at the border.

gunpowder and funlib.geometry count in integers and drop fractions silently. So physical sizes enter as exact rationals.
One *world unit* is chosen in which every voxel size is a whole number. Sizes are converted only where files are read
and written.
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
    """Return the rational that a user meant: a float counts as the decimal that it prints as.

    Raises:
        LatticeError: ``length`` is not a finite number.

    Example:
        >>> exact(4.6)
        Fraction(23, 5)
    """
    try:
        return Fraction(str(length))
    except (ValueError, ZeroDivisionError) as error:
        raise LatticeError(f"{length!r} is not a finite length; write a number such as 8, 4.6 or '23/5'") from error


def exact_size(lengths: Iterable[Length]) -> tuple[Fraction, ...]:
    """:func:`exact` per axis."""
    return tuple(exact(length) for length in lengths)


def format_size(lengths: Iterable[Fraction]) -> str:
    """Return lengths for messages and tables, as ``50 × 4.6 × 4.6``."""
    return " × ".join(format(float(length), ".12g") for length in lengths)


def common_unit(sizes: Iterable[Iterable[Length]]) -> Fraction:
    """Return the largest unit of the form 1/n nm in which all ``sizes`` (nm) are whole numbers of units.

    Whole nanometers stay nanometers: the unit of 8 and 128 nm is 1 nm; that of 50 and 4.6 nm is 1/5 nm.

    Example:
        >>> common_unit([(50, 4.6, 4.6)])
        Fraction(1, 5)
    """
    return Fraction(1, math.lcm(*(exact(length).denominator for size in sizes for length in size)))


@dataclass(frozen=True, slots=True)
class World:
    """The integer coordinate system that the arrays of one pipeline share.

    Args:
        unit: nanometers per world unit.
        origin: the physical position (nm, per spatial axis) of world coordinate zero; zero on every axis if empty.
            Voxel corners lie on multiples of the voxel size from here. An OME-Zarr file whose first voxel *center* is
            at 0 has its corner, and so the origin, at minus half a voxel.

    Raises:
        LatticeError: ``unit`` is not positive, or a length is not a finite number.

    Example:
        >>> world = World(common_unit([(50, 4.6, 4.6)]))
        >>> world.size((50, 4.6, 4.6))
        (250, 23, 23)
    """

    unit: Fraction = Fraction(1)
    origin: tuple[Fraction, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", exact(self.unit))
        object.__setattr__(self, "origin", exact_size(self.origin))
        if self.unit <= 0:
            raise LatticeError(f"the world unit is {self.unit} nm; it has to be positive")

    def size(self, nanometers: Iterable[Length], what: str = "size") -> Coordinate:
        """Return a physical size (nm) in world units.

        Args:
            nanometers: the size per axis.
            what: the name of the size in messages.

        Raises:
            LatticeError: an entry is not a whole number of world units.
        """
        lengths = exact_size(nanometers)
        units = [length / self.unit for length in lengths]
        if any(unit.denominator != 1 for unit in units):
            fitting = common_unit([lengths, [self.unit]])
            raise LatticeError(
                f"{what} {format_size(lengths)} nm is not a whole number of world units of {self.unit} nm; "
                f"a world unit of {fitting} nm would fit"
            )
        return Coordinate(int(unit) for unit in units)

    def position(self, nanometers: Iterable[Length], what: str = "position") -> Coordinate:
        """Return a physical position (nm) in world coordinates.

        Raises:
            LatticeError: the distance from the origin is not a whole number of world units.
        """
        position = exact_size(nanometers)
        return self.size((p - o for p, o in zip(position, self._origin(len(position)), strict=True)), what)

    def roi(self, begin: Iterable[Length], shape: Iterable[Length], what: str = "ROI") -> Roi:
        """Return the world ROI of a physical box; ``begin`` and ``shape`` in nm, of voxel *corners*."""
        return Roi(self.position(begin, f"{what} begin"), self.size(shape, f"{what} shape"))

    def size_in_nm(self, size: Coordinate) -> tuple[Fraction, ...]:
        """Return the physical size (nm) of a size in world units."""
        return tuple(int(length) * self.unit for length in size)

    def position_in_nm(self, position: Coordinate) -> tuple[Fraction, ...]:
        """Return the physical position (nm) of a world coordinate."""
        size = self.size_in_nm(position)
        return tuple(o + s for o, s in zip(self._origin(len(size)), size, strict=True))

    def _origin(self, dims: int) -> tuple[Fraction, ...]:
        if not self.origin:
            return (Fraction(0),) * dims
        if len(self.origin) != dims:
            raise LatticeError(f"the world's origin has {len(self.origin)} axes, this has {dims}")
        return self.origin
