"""A spec that is cheap to copy."""

from __future__ import annotations

from typing import Any, Self, TypeVar, final

from gunpowder import ArraySpec

__all__ = ["CheapCopySpec"]

Value = TypeVar("Value")


@final
class CheapCopySpec(ArraySpec):
    """A gunpowder spec whose ``copy`` copies what is ever changed in place, its ROI, and shares the rest.

    gunpowder copies the spec of every array several times at every node, by ``deepcopy``. What a source announces as
    light specs stays light all the way down.
    """

    @classmethod
    def of(cls, spec: ArraySpec) -> Self:
        """A light copy of ``spec``."""
        light = cls.__new__(cls)
        light.__dict__.update(spec.__dict__)
        light.roi = _shallow(spec.roi)
        return light

    def copy(self) -> Self:
        return self.of(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # a MergeProvider puts light specs into requests of gunpowder's own
        return self.of(self)


def _shallow(value: Value) -> Value:
    """What ``copy.copy`` does, in a third of its time."""
    if value is None:
        return value
    copied = object.__new__(type(value))
    copied.__dict__.update(value.__dict__)
    return copied
