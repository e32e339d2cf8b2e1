"""The base of all augmentation nodes: one draw for all arrays of a batch, kept on record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

from gunpowder import ArrayKey, BatchFilter
from pydantic import BaseModel, ConfigDict, ValidationError

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import World
from scalenet_gp.options import PhysicalOptions

__all__ = ["Augment", "AugmentOptions", "DrawnParameters", "Record", "as_probability", "unused_name"]


class Record(Protocol):
    """The parameters that were drawn for one batch, as a value that JSON can hold."""

    def to_json(self) -> str:
        """Return the record as JSON text."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the record that :meth:`to_json` wrote."""

    def describe(self, unit: float) -> list[str]:
        """Return short phrases that say what was changed, for a reader. A change that does nothing is left out.

        Args:
            unit: nm per world unit.
        """


class DrawnParameters(BaseModel):
    """A :class:`Record` that is written field by field. Numbers come back equal to the bit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> str:
        """Return the record as JSON text."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the record that :meth:`to_json` wrote.

        Raises:
            ArgumentError: the text is not such a record.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ArgumentError(f"{text!r} is not a record of {cls.__name__}: {error}") from error


class Augment(BatchFilter, ABC):
    """Abstract: a node that changes a batch at random and keeps a record of its draw in the arrays' ``attrs``.

    Example:
        >>> from scalenet_gp.nodes import BlurAugment
        >>> BlurAugment.for_arrays([ArrayKey("RAW")], sigma=(0, 8)).record_name
        'blur'
        >>> BlurAugment.parameters.from_json('{"sigma": [8, 8, 8]}').describe(unit=0.5)
        ['blur 4 nm']
    """

    record_name: ClassVar[str]
    """The key of the record in ``array.attrs``. A second node of the same kind in a chain appends ``_2``."""

    parameters: ClassVar[type[Record]]
    """The type of the record."""

    moves_content: ClassVar[bool] = False
    """True if content changes its place, so that labels and masks have to be changed together with raw data."""

    @classmethod
    @abstractmethod
    def for_arrays(cls, arrays: Iterable[ArrayKey], **arguments: Any) -> Self:
        """Return a node that changes these arrays. A node that always changes all arrays ignores their names."""


class AugmentOptions(PhysicalOptions):
    """Abstract: the options of an augmentation node. Lengths are in nm, and exact.

    Example:
        >>> from scalenet_gp.nodes.augment.blur_augment import BlurOptions
        >>> BlurOptions(sigma=(0, 4.6)).build(World("1/5"), [ArrayKey("RAW")]).sigma
        ((0.0, 23.0),)
    """

    def build(  # type: ignore[override]
        self,
        world: World,
        raw: Iterable[ArrayKey],
        labels: Iterable[ArrayKey] = (),
        *,
        replay: str | None = None,
        where: str = "",
        corner: Sequence[int] = (),
        **given: Any,
    ) -> Augment:
        """Return the node for the arrays of one pipeline.

        Args:
            world: the world that the pipeline counts in.
            raw: intensity arrays.
            labels: labels and masks, which are changed only if the node's ``moves_content`` is True.
            replay: a record of an earlier batch, applied to every batch instead of a draw.
            where: the path of these options in the run file, for messages.
            corner: the point from which positions in the options count, world coordinates: the corner of the raw
                volume. By default it is the world's origin.
            given: arguments that go before those of the options.

        Raises:
            LatticeError: a length is not a whole number of world units.
            ArgumentError: an argument is out of its range in this world.
        """
        node: type[Augment] = self.component()
        arrays = (*raw, *labels) if node.moves_content else tuple(raw)
        arguments = self.place_at(corner, self.arguments_in(world, where))
        return node.for_arrays(arrays, **{**arguments, "replay": replay, **given})

    def place_at(self, corner: Sequence[int], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments with positions in world coordinates instead of distances from ``corner``."""
        return arguments

    @classmethod
    def component(cls) -> type[Augment]:
        """Return the class of the node."""
        raise TypeError(f"{cls.__name__} was not made by options_of")

    def build_on_trial(self, arguments: Mapping[str, Any]) -> None:
        """Build the node for an array that no pipeline provides, so that it checks its arguments."""
        self.component().for_arrays([ArrayKey("ANY")], **arguments)


def as_probability(name: str, value: float) -> float:
    """Return a number in [0, 1].

    Raises:
        ArgumentError: it is not in [0, 1].
    """
    if not 0 <= value <= 1:
        raise ArgumentError(f"{name} is {value!r}; a probability lies between 0 and 1")
    return float(value)


def unused_name(name: str, attrs: Mapping[str, Any]) -> str:
    """Return ``name``, or ``name_2``, ``name_3``, ... where ``attrs`` has an entry of that name."""
    number, free = 1, name
    while free in attrs:
        number += 1
        free = f"{name}_{number}"
    return free
