"""Samples that hold a box: a voxel of a mask, or a point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import LatticeError, PipelineError
from scalenet_gp.nodes.samplers.sampler import Axis

__all__ = ["TRIES", "draw_holding"]

TRIES = 1000
"""Boxes drawn at once. The first that a sample can hold is taken."""


def draw_holding(
    generator: np.random.Generator,
    opening: Sequence[Axis],
    corners: NDArray[np.int64],
    size: Coordinate,
    inside: Roi | None,
    name: str,
) -> tuple[int, Coordinate]:
    """Draw the begin of a sample that holds the first possible one of several boxes.

    The box lies within the central half of the sample, at every position equally likely. If the lattice or the arrays'
    bounds leave no such position, it lies as near to one as they allow.

    Args:
        generator: the source of all random numbers.
        opening: the begins that the sample may have, per axis.
        corners: of the boxes, in the order in which they are tried, (box, axis), world units.
        size: of all boxes, world units.
        inside: keep the sample inside this ROI.
        name: of the boxes' origin, for messages.

    Returns:
        The index of the box, and the begin of the sample.

    Raises:
        LatticeError: the boxes are larger than the sample, or none can be held.
        PipelineError: the sample has other axes.
    """
    lengths = tuple(axis.length for axis in opening)
    if len(size) != len(opening):
        raise PipelineError(f"{name} has {len(size)} axes, the sample has {len(opening)}")
    if any(s > length for s, length in zip(size, lengths, strict=True)):
        raise LatticeError(f"{name}: a sample of {lengths} is smaller than a voxel; name a finer voxel_size")
    if inside is not None:
        ends = zip(opening, inside.begin, inside.end, strict=True)
        opening = [axis.within(int(begin), int(end), "the region") for axis, begin, end in ends]
    held = np.all([axis.holds(c, s) for axis, c, s in zip(opening, corners.T, size, strict=True)], axis=0)
    if not held.any():
        raise LatticeError(f"{name}: of {len(corners)} drawn, {_refusal(opening, corners[0].tolist(), size)}")
    first = int(np.argmax(held))
    places = zip(opening, corners[first].tolist(), size, strict=True)
    return first, Coordinate(_begin(generator, axis, corner, length) for axis, corner, length in places)


def _begin(generator: np.random.Generator, axis: Axis, corner: int, size: int) -> int:
    """Return a begin that puts the box into the central half of the sample, or as near to that as possible."""
    first, last = -((3 * axis.length - 4 * (corner + size)) // 4), (4 * corner - axis.length) // 4
    central = axis.begins(first, last)
    if central:
        return central[int(generator.integers(len(central)))]
    # doubled, the middle is a whole number
    off_centre = 2 * corner + size - axis.length
    return min(axis.begins(corner + size - axis.length, corner), key=lambda begin: abs(2 * begin - off_centre))


def _refusal(opening: Sequence[Axis], corner: Sequence[int], size: Sequence[int]) -> str:
    """Return the reason why no sample can hold the box at ``corner``."""
    reasons = [
        f"along axis {number} " + axis.refusal(c + s - axis.length, c, "to hold it")
        for number, (axis, c, s) in enumerate(zip(opening, corner, size, strict=True))
        if not axis.begins(c + s - axis.length, c)
    ]
    lengths = tuple(axis.length for axis in opening)
    return f"none can lie in a sample of {lengths}; of the one at {tuple(corner)}: {'; '.join(reasons)}"
