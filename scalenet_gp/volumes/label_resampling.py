"""Labels at other voxels than the stored ones: a served voxel is what the larger part of its volume is.

A stored label holds for the whole box of its voxel. The two lattices cut space into cells, each within one stored and
one served voxel, and the cells of a served voxel vote with their volumes. So

- of whole stored voxels it is the majority by number, as :func:`.known_majority` and :func:`.block_majority` count it;
- a stored voxel that lies across a face of a served one counts for its part inside, so nothing is moved;
- along an axis on which the stored voxels are coarser it is the nearest one, which holds the centre.

The label at the centre of a served voxel would be the same where labels are coarser. Where they are finer, one of many
would speak for all, and would tear thin classes into pieces.

Lengths are fractions. Volumes are whole numbers of the parts that both lattices have in common, so that ties are ties.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import final

import numpy as np

from scalenet_gp.volumes.reduction import known_majority

__all__ = ["Box", "ClassVoxels", "StoredGrid", "class_majority", "volume_mode"]

Box = tuple[tuple[int, int], ...]
"""Begin and end along each spatial axis, in served voxels from the world's origin."""


@final
@dataclass(frozen=True, slots=True)
class StoredGrid:
    """The place of stored voxels among the served ones, along each spatial axis.

    Args:
        begin: the begin of the first stored voxel, counted in served voxels from the world's origin.
        length: the length of a stored voxel, in served voxels.

    Example:
        >>> StoredGrid((Fraction(4),), (Fraction(1, 2),)).factor
        (2,)
        >>> StoredGrid((Fraction(4),), (Fraction(2, 3),)).factor is None
        True
    """

    begin: tuple[Fraction, ...]
    length: tuple[Fraction, ...]

    @property
    def factor(self) -> tuple[int, ...] | None:
        """The stored voxels per served one; None unless served voxels are made of whole ones."""
        whole = all(begin.denominator == 1 for begin in self.begin) and all(
            length.numerator == 1 for length in self.length
        )
        return tuple(length.denominator for length in self.length) if whole else None


@final
@dataclass(frozen=True, slots=True, eq=False)
class ClassVoxels:
    """The stored voxels of a class that cover a box of served ones.

    Args:
        box: the box.
        present: boolean (z, y, x) or (y, x): the class is present.
        known: boolean, of the same shape: it is known whether the class is present. True where it is.
        grid: the place of the voxels.

    Example:
        >>> there = np.array([True, False, False])
        >>> ClassVoxels(((0, 2),), there, np.ones(3, dtype=bool), StoredGrid((Fraction(0),), (Fraction(2, 3),))).box
        ((0, 2),)
    """

    box: Box
    present: np.ndarray
    known: np.ndarray
    grid: StoredGrid


def class_majority(classes: Sequence[ClassVoxels], *, complete: bool = True) -> tuple[Box, np.ndarray, np.ndarray]:
    """Return where any of the classes is present, and where that is known: a box, and for its voxels two uint8 arrays.

    A place belongs to the classes where any of them is present. It is known there, and where all classes are known. A
    voxel is known if at least half of its volume is. It is present if it is known and more than half of its known
    volume is present: a tie is absent.

    Args:
        classes: at least one class. Their boxes and voxels may differ; outside its box, a class is unknown.
        complete: False if there are more classes, which are unknown everywhere.

    Returns:
        The smallest box that holds those of all classes, and the two arrays.

    Example:
        >>> thirds = StoredGrid((Fraction(0),), (Fraction(2, 3),))
        >>> there = np.array([True, True, False])
        >>> box, present, known = class_majority([ClassVoxels(((0, 2),), there, np.ones(3, dtype=bool), thirds)])
        >>> present.tolist(), known.tolist()
        ([1, 0], [1, 1])
    """
    places: dict[tuple[Box, StoredGrid], _Votes] = {}
    for one in classes:
        place, votes = (one.box, one.grid), _Votes(one.present, one.known.astype(np.uint16))
        places[place] = places[place] + votes if place in places else votes
    needed = len(classes) if complete else math.inf
    box = tuple((min(begins), max(ends)) for begins, ends in _along_axes([box for box, _ in places]))
    ((_, grid), votes), *others = places.items()
    if not others and grid.factor is not None:
        return box, *known_majority(votes.present, votes.known(needed), grid.factor)
    return box, *_majority_of_volume(places, box, needed)


@dataclass(frozen=True, slots=True, eq=False)
class _Votes:
    """Votes of classes, voxel by voxel: any of them is present; and the number of those that are known."""

    present: np.ndarray
    count: np.ndarray

    def __add__(self, other: _Votes) -> _Votes:
        return _Votes(self.present | other.present, self.count + other.count)

    def known(self, needed: float) -> np.ndarray:
        return self.present | (self.count >= needed)


def _along_axes(boxes: Sequence[Box]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return, for each axis, the begins and the ends of boxes."""
    return [tuple(zip(*ends, strict=True)) for ends in zip(*boxes, strict=True)]  # type: ignore[misc]


def _majority_of_volume(
    places: Mapping[tuple[Box, StoredGrid], _Votes], box: Box, needed: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the arrays of :func:`class_majority` for ``box``."""
    grids = [grid for _, grid in places]
    axes = [_Cells.of(*ends, [(g.begin[a], g.length[a]) for g in grids]) for a, ends in enumerate(box)]
    if len(places) == 1:
        (votes,) = places.values()
        shares = [axis.shares(axis.stored[0]) for axis in axes]
    else:
        votes = _votes_of_cells(places, axes)
        shares = [axis.shares(np.arange(len(axis.length))) for axis in axes]
    whole = math.prod(axis.parts for axis in axes)
    present, known = (_volumes(voxels, shares, whole) for voxels in (votes.present, votes.known(needed)))
    decided = 2 * known >= whole
    return (decided & (2 * present > known)).astype(np.uint8), decided.astype(np.uint8)


def _votes_of_cells(places: Mapping[tuple[Box, StoredGrid], _Votes], axes: Sequence[_Cells]) -> _Votes:
    """Return the votes in each cell, of classes whose voxels differ."""
    shape = [len(axis.length) for axis in axes]
    cells = _Votes(np.zeros(shape, dtype=bool), np.zeros(shape, dtype=np.uint16))
    for number, ((own, _), votes) in enumerate(places.items()):
        inside = tuple(axis.within(*ends) for axis, ends in zip(axes, own, strict=True))
        stored = np.ix_(*(axis.stored[number][part] for axis, part in zip(axes, inside, strict=True)))
        cells.present[inside] |= votes.present[stored]
        cells.count[inside] += votes.count[stored]
    return cells


def _volumes(voxels: np.ndarray, shares: Sequence[np.ndarray], whole: int) -> np.ndarray:
    """Return the volume of the true voxels in every served one, in parts of which a served voxel has ``whole``."""
    # types that hold all sums, so that they are exact in any order
    dtype = np.float32 if whole < 2**23 else np.float64 if whole < 2**52 else np.int64 if whole < 2**62 else object
    sums: np.ndarray = voxels.astype(dtype)
    for share in shares:  # the first axis each time, which becomes the last
        sums = np.tensordot(sums, share.astype(dtype), axes=(0, 1))
    return sums


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The cells along an axis.

    Args:
        begin: the first served voxel.
        parts: the parts in which a served voxel is counted.
        length: of each cell, in parts.
        first: the first cell of every served voxel.
        stored: for each grid, the stored voxel that holds each cell.
    """

    begin: int
    parts: int
    length: np.ndarray
    first: np.ndarray
    stored: Sequence[np.ndarray]

    @classmethod
    def of(cls, begin: int, end: int, grids: Sequence[tuple[Fraction, Fraction]]) -> _Cells:
        """Return the cells of the served voxels from ``begin`` to ``end``, and of grids of a begin and a length."""
        parts = math.lcm(*(length.denominator for grid in grids for length in grid))
        served = parts * np.arange(end - begin + 1)
        steps = [(int((first - begin) * parts), int(length * parts)) for first, length in grids]
        faces = [served]
        for first, length in steps:
            low, high = -(first // length), -(-(served[-1] - first) // length)
            faces.append(np.clip(first + length * np.arange(low, high + 1), 0, served[-1]))
        edges = np.unique(np.concatenate(faces))
        stored = [(edges[:-1] - first) // length for first, length in steps]
        return cls(begin, parts, np.diff(edges), np.searchsorted(edges, served[:-1]), stored)

    def within(self, begin: int, end: int) -> slice:
        """Return the cells of some of the served voxels."""
        ends = [*self.first, len(self.length)]
        return slice(ends[begin - self.begin], ends[end - self.begin])

    def shares(self, stored: np.ndarray) -> np.ndarray:
        """Return the length, in parts, that each served voxel has of every stored one: (served, stored).

        Args:
            stored: the stored voxel that holds each cell.
        """
        shares = np.zeros((len(self.first), int(stored.max()) + 1), dtype=np.int64)
        shares[np.searchsorted(self.first, np.arange(len(stored)), side="right") - 1, stored] = self.length
        return shares

    def taps(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the stored voxels, and their lengths, that make each served voxel: (served, cells), filled up by 0."""
        ends = np.append(self.first[1:], len(self.length))
        number = self.first[:, np.newaxis] + np.arange((ends - self.first).max())
        cell = np.minimum(number, ends[:, np.newaxis] - 1)
        return self.stored[0][cell], np.where(number == cell, self.length[cell], 0)


def volume_mode(data: np.ndarray, grid: StoredGrid, box: Box) -> np.ndarray:
    """Return the label with the largest part of the volume of every served voxel, the smallest of several.

    Args:
        data: (channel, z, y, x) or (channel, y, x): the stored voxels that cover the box.
        grid: their place.
        box: the served voxels.

    Example:
        >>> ids = np.array([[7, 7, 3]])
        >>> volume_mode(ids, StoredGrid((Fraction(0),), (Fraction(2, 3),)), ((0, 2),)).tolist()
        [[7, 3]]
    """
    axes = [_Cells.of(*ends, [(grid.begin[a], grid.length[a])]) for a, ends in enumerate(box)]
    dtype = np.int64 if math.prod(axis.parts for axis in axes) < 2**62 else np.float64
    (planes, weights), *rest = [axis.taps() for axis in axes]
    # (t, y, u, x, v), of served y and x, and of the stored voxels t, u and v of each
    served, taps = [1 + 2 * number for number in range(len(rest))], [2 * number for number in range(len(axes))]
    modes = []
    for plane, weight in zip(planes, weights, strict=True):  # one by one, as the stored voxels of all take much memory
        values, volumes = data[:, plane], weight.astype(dtype)
        for number, (index, along) in enumerate(rest):
            values = values.take(index, axis=2 + 2 * number)
            volumes = np.multiply.outer(volumes, along.astype(dtype))
        values = values.transpose(0, *(axis + 1 for axis in (*served, *taps)))
        volumes = volumes.transpose(*served, *taps)
        shape = values.shape[: 1 + len(served)]
        modes.append(_weighted_mode(values.reshape(*shape, -1), volumes.reshape(*shape[1:], -1)))
    return np.stack(modes, axis=1)


def _weighted_mode(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the value of the largest weight along the last axis, the smallest of several."""
    order = np.argsort(values, axis=-1)
    values = np.take_along_axis(values, order, axis=-1)
    weights = np.take_along_axis(np.broadcast_to(weights, values.shape), order, axis=-1)
    mode, run = values[..., 0].copy(), weights[..., 0]
    heaviest = run.copy()
    # equal values are neighbours now, and the first of equal weights is the smallest
    for number in range(1, values.shape[-1]):
        weight = weights[..., number]
        run = np.where(values[..., number] == values[..., number - 1], run + weight, weight)
        heavier = run > heaviest
        mode[heavier] = values[..., number][heavier]
        heaviest[heavier] = run[heavier]
    return mode
