"""Options of the methods that find instances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Length, Options

__all__ = ["ComponentsOptions", "Connectivity", "SegmentationMethod", "WatershedOptions"]

Connectivity = Literal[6, 18, 26]
"""Neighbours of a voxel: those that share a face (6), an edge too (18), or a corner too (26)."""

_REACH = 32
"""Voxels within which distances count, unless the reach is given."""


class MaskOptions(Options):
    """Abstract: the voxels of a class, and the size of its objects.

    Attributes:
        threshold: probability from which on a voxel is of the class; the one that
            ``evaluate --choose-thresholds`` chose for the run, or ``evaluation.threshold``, unless given. Classes
            that exclude each other have none: there the most probable one counts, as in the evaluation.
        closing: nm; radius of the ball of a morphological closing, which fills gaps and cracks that it does not fit
            into; no closing with 0. Beyond the border of the region, the class does not go on.
        holes: nm³; holes of up to this volume become part of the class. A hole is enclosed by the class: a component
            of voxels without it that does not reach the border of the region. None is filled by default.
        opening: nm; radius of the ball of a morphological opening, which takes away whatever such a ball does not fit
            into and cuts thin bridges; no opening with 0. Beyond the border of the region, the class goes on.
        connectivity: the neighbours of a voxel that are of the same object: 6 share a face, 18 an edge, 26 a corner. In
            two dimensions 6 share an edge, and 18 and 26 a corner too.
        smallest: nm³; smaller objects are left out.
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    closing: Length = Fraction(0)
    holes: Length = Fraction(0)
    opening: Length = Fraction(0)
    connectivity: Connectivity = 26
    smallest: Length = Fraction(0)

    @field_validator("closing", "holes", "opening", "smallest")
    @classmethod
    def _not_below_zero(cls, length: Fraction) -> Fraction:
        if length < 0:
            raise ConfigError("it has to be 0 or more")
        return length

    def smallest_voxels(self, voxel_size: Sequence[Fraction]) -> int:
        """Return the voxels of the smallest object that is kept, at least 1. Voxel sizes are nm."""
        return max(1, math.ceil(self.smallest / math.prod(voxel_size)))

    def hole_voxels(self, voxel_size: Sequence[Fraction]) -> int:
        """Return the voxels of the largest hole that is filled; 0 if none is. Voxel sizes are nm."""
        return math.floor(self.holes / math.prod(voxel_size))


class ComponentsOptions(MaskOptions):
    """Objects that are connected components of the voxels of a class.

    The steps follow each other in this order: threshold, closing, holes, opening, components, smallest.

    Attributes:
        kind: ``components``.

    Example:
        >>> ComponentsOptions(smallest=1000).smallest_voxels((8, 8, 8))
        2
    """

    kind: Literal["components"] = "components"


class WatershedOptions(MaskOptions):
    """Objects that are parted where they are narrow: a watershed on the distance to the boundary.

    The steps follow each other in this order: threshold, closing, holes, opening, watershed, smallest.

    Attributes:
        kind: ``watershed``.
        depth: nm; two parts are two objects if in the middle of both the distance to the boundary is larger by more
            than this than in the neck between them.
        reach: nm; larger distances count as this one, so that necks that are wider part nothing. So much is read
            around each block. 32 of the largest voxel length unless given.

    Example:
        >>> WatershedOptions(depth=20).reach_in((Fraction(8), Fraction(4), Fraction(4)))
        Fraction(256, 1)
    """

    kind: Literal["watershed"] = "watershed"
    depth: Length
    reach: Length | None = None

    @field_validator("depth", "reach")
    @classmethod
    def _above_zero(cls, length: Fraction | None) -> Fraction | None:
        if length is not None and length <= 0:
            raise ConfigError("it has to be above 0")
        return length

    def reach_in(self, voxel_size: Sequence[Fraction]) -> Fraction:
        """Return the largest distance that counts, nm. Voxel sizes are nm."""
        return _REACH * max(voxel_size) if self.reach is None else self.reach


def _kind(method: Any) -> Any:
    """Return the kind of a method; components if it does not say one."""
    return method.get("kind", "components") if isinstance(method, Mapping) else getattr(method, "kind", None)


SegmentationMethod = Annotated[
    Annotated[ComponentsOptions, Tag("components")] | Annotated[WatershedOptions, Tag("watershed")],
    Discriminator(_kind),
]
"""Options of a method that finds objects; ``kind`` tells which, components unless given."""
