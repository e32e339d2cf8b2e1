"""Lengths of components: world units in Python, nanometres in a run file, converted without rounding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Self, final

from pydantic import model_validator

from scalenet_gp.geometry import World, common_unit
from scalenet_gp.options.signature import ComponentOptions, FieldType
from scalenet_gp.options.types import Length, Size

__all__ = ["InWorldUnits", "PhysicalOptions", "WholeLength", "WholeSize"]


@final
@dataclass(frozen=True, slots=True)
class InWorldUnits(FieldType):
    """Mark a constructor's parameter as lengths, which a run file gives in nanometres.

    Attributes:
        field: the type of the option's field, made of :data:`Length`, tuples and None.
        whole: refuse lengths that are not a whole number of world units. Otherwise they become floats.

    Example:
        >>> from typing import Annotated
        >>> def blur(sigma: Annotated[float, InWorldUnits(Length, whole=False)]) -> None: ...
    """

    field: Any
    whole: bool = True

    def convert(self, lengths: Any, world: World, name: str) -> Any:
        """Return lengths in nm as world units, in the same nested tuples.

        Raises:
            LatticeError: a length is not a whole number of world units. ``name`` is in the message.
        """
        if lengths is None:
            return None
        if isinstance(lengths, tuple):
            if self.whole and all(isinstance(length, Fraction) for length in lengths):
                return tuple(world.size(lengths, name))
            return tuple(self.convert(length, world, name) for length in lengths)
        return int(world.size([lengths], name)[0]) if self.whole else float(lengths / world.unit)


WholeLength = Annotated[int, InWorldUnits(Length)]
"""The type of a parameter that is one whole number of world units."""

WholeSize = Annotated[Iterable[int], InWorldUnits(Size)]
"""The type of a parameter that is a whole number of world units per spatial axis."""


class PhysicalOptions(ComponentOptions):
    """Abstract: arguments of a component, the lengths among them in nanometres.

    Values that the component's constructor refuses are refused when the options are read, with the path of the field.

    Example:
        >>> from scalenet_gp.options import options_of
        >>> class Shift:
        ...     def __init__(self, by: WholeLength) -> None:
        ...         self.by = by
        >>> options_of(Shift, "shift", base=PhysicalOptions)(by=4.6).arguments_in(World("1/5"))
        {'by': 23}
    """

    def arguments_in(self, world: World, where: str = "") -> dict[str, Any]:
        """Return the arguments by name, lengths in units of ``world``.

        Args:
            world: the world in whose units the component counts.
            where: the path of these options in the run file, for messages.

        Raises:
            LatticeError: a length is not a whole number of world units.
        """
        units = self._units()
        return {
            name: units[name].convert(value, world, f"{where}.{name}" if where else name) if name in units else value
            for name, value in self.arguments().items()
        }

    def build_on_trial(self, arguments: Mapping[str, Any]) -> None:
        """Build the component and drop it, so that its constructor checks the arguments.

        A subclass adds stand-ins for the arguments that no option can hold.
        """
        self.component()(**arguments)

    @classmethod
    def _units(cls) -> dict[str, InWorldUnits]:
        return {name: kind for name, kind in cls.field_types().items() if isinstance(kind, InWorldUnits)}

    @model_validator(mode="after")
    def _check_by_building(self) -> Self:
        lengths = [length for name in self._units() for length in _flat(getattr(self, name))]
        self.build_on_trial(self.arguments_in(World(common_unit([lengths]))))
        return self


def _flat(lengths: Any) -> Iterable[Fraction]:
    if isinstance(lengths, tuple):
        for length in lengths:
            yield from _flat(length)
    elif isinstance(lengths, Fraction):
        yield lengths
