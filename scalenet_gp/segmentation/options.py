"""Options of the methods that find instances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, field_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Length, Options

__all__ = ["ComponentsOptions", "Connectivity"]

Connectivity = Literal[6, 18, 26]
"""Neighbours of a voxel: those that share a face (6), an edge too (18), or a corner too (26)."""


class ComponentsOptions(Options):
    """Objects that are connected components of the voxels of a class.

    The steps follow each other in this order: threshold, holes, opening, components, smallest.

    Attributes:
        kind: ``components``.
        threshold: probability from which on a voxel is of the class; ``evaluation.threshold`` unless given. Classes
            that exclude each other have none: there the most probable one counts, as in the evaluation.
        holes: nm³; holes of up to this volume become part of the class. A hole is enclosed by the class: a component
            of voxels without it that does not reach the border of the region. None is filled by default.
        opening: nm; radius of the ball of a morphological opening, which takes away whatever such a ball does not fit
            into and cuts thin bridges; no opening with 0. Beyond the border of the region, the class goes on.
        connectivity: the neighbours of a voxel that are of the same object: 6 share a face, 18 an edge, 26 a corner. In
            two dimensions 6 share an edge, and 18 and 26 a corner too.
        smallest: nm³; smaller objects are left out.

    Example:
        >>> ComponentsOptions(smallest=1000).smallest_voxels((8, 8, 8))
        2
    """

    kind: Literal["components"] = "components"
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    holes: Length = Fraction(0)
    opening: Length = Fraction(0)
    connectivity: Connectivity = 26
    smallest: Length = Fraction(0)

    @field_validator("holes", "opening", "smallest")
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
