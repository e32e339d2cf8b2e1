"""Growth of neurites: trees of round tubes that fill a box and keep apart from each other.

All lengths are in nanometres; positions are Z Y X.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

__all__ = ["STEP", "Neurites", "box_around", "grow_neurites", "unit"]

STEP = 48
"""The distance between neighbouring points of a branch."""

APART = 90
"""The surfaces of two tubes are at least so far apart; two neurites share the room between them."""

START = 150
"""A neurite begins where the surfaces of all others are farther than this."""

CALIBRES = (15, 45, 120, 260)
"""Bounds of the radii of thin axons, axons and dendrites."""

SHARES = (0.3, 0.4, 0.3)
"""The shares of thin axons, axons and dendrites among neurites."""

BRANCHING = 0.035
"""The probability that a branch leaves at a point."""

THINNEST = 10
"""The least radius of a tube; it is wider by the room that it shares with its neighbours."""

SHORTEST = 10
"""Neurites of fewer points are left out."""

LARGEST = 600
"""A neurite of so many points has no further branch."""

REACH = 420
"""A larger distance to a tube counts as this one."""

GRID = 64
"""Distances to tubes are known at points this far apart."""

MARGIN = 3
"""Points of the grid beyond each face of the box, into which neurites grow."""

Points = NDArray[np.float64]
"""Positions or vectors, (n, 3)."""


@dataclass(frozen=True, slots=True)
class Neurites:
    """Tubes, as the balls that they are made of.

    Attributes:
        positions: middle of each ball, (n, 3).
        directions: unit vector along the tube, (n, 3).
        radii: radius of each ball, (n,).
        numbers: the neurite that each ball belongs to, from 0 on, rising, (n,).
        begins: True for the first ball of each branch, which does not go on from the one before, (n,).
    """

    positions: Points
    directions: Points
    radii: NDArray[np.float64]
    numbers: NDArray[np.int64]
    begins: NDArray[np.bool_]


def grow_neurites(rng: np.random.Generator, extent: Sequence[float]) -> Neurites:
    """Fill a box with neurites, one after the other, until there is no room.

    Each starts at a random place among those where there is room, grows both ways in a direction that wanders, keeps
    to where other neurites are far enough, and branches. A branch ends where it leaves the box or finds no way.

    Args:
        rng: source of random numbers.
        extent: edges of the box.

    Example:
        >>> neurites = grow_neurites(np.random.default_rng(0), (800, 800, 800))
        >>> neurites.positions.shape[1], bool((np.diff(neurites.numbers) >= 0).all())
        (3, True)
    """
    room = Room(extent)
    trees: list[Tree] = []
    while (start := room.choose_start(rng)) is not None:
        kind = rng.choice(len(SHARES), p=SHARES)
        tree = Tree(rng, room, rng.uniform(CALIBRES[kind], CALIBRES[kind + 1]))
        tree.grow(start)
        if len(tree) >= SHORTEST:
            room.add(tree)
            trees.append(tree)
    return Neurites(
        np.concatenate([tree.positions for tree in trees]),
        np.concatenate([tree.directions for tree in trees]),
        np.concatenate([tree.radii for tree in trees]),
        np.repeat(np.arange(len(trees)), list(map(len, trees))),
        np.concatenate([tree.begins for tree in trees]),
    )


@final
class Room:
    """The distances to the nearest tube, at the points of a grid that reaches beyond a box.

    Args:
        extent: edges of the box.
    """

    def __init__(self, extent: Sequence[float]) -> None:
        self._extent = np.asarray(extent, float)
        within = tuple(int(np.ceil(length / GRID)) for length in extent)
        self._distance = np.full([n + 2 * MARGIN for n in within], REACH, np.float32)
        self._untried = np.pad(np.ones(within, bool), MARGIN)

    def choose_start(self, rng: np.random.Generator) -> Points | None:
        """Return a random point of the box where a neurite can begin; None if there is none. Each is chosen once."""
        free = np.flatnonzero((self._distance > START) & self._untried)
        if not len(free):
            return None
        index = np.unravel_index(rng.choice(free), self._distance.shape)
        self._untried[index] = False
        return (np.array(index) - MARGIN + 0.5) * GRID

    def contains(self, positions: Points) -> NDArray[np.bool_]:
        """Return which positions lie in the box, or a little beyond."""
        beyond = (MARGIN - 1) * GRID
        within = (positions > -beyond) & (positions < self._extent + beyond)
        return np.all(within, axis=-1)

    def distances(self, positions: Points) -> NDArray[np.floating]:
        """Return the distances of positions from the nearest surface of a tube, linearly interpolated."""
        from scipy.ndimage import map_coordinates

        return map_coordinates(self._distance, (positions / GRID - 0.5 + MARGIN).T, order=1, mode="nearest")

    def add(self, tree: Tree) -> None:
        """Take the room that a neurite fills."""
        for position, radius in zip(tree.positions, tree.radii, strict=True):
            place = position / GRID + MARGIN
            box = box_around(place, (REACH + radius) / GRID, self._distance.shape)
            z, y, x = (((line + 0.5 - middle) * GRID) ** 2 for line, middle in zip(np.ogrid[box], place, strict=True))
            away = np.sqrt(z + y + x) - radius
            np.minimum(self._distance[box], away, out=self._distance[box])


@final
class Tree:
    """One neurite while it grows.

    Args:
        rng: source of random numbers.
        room: the room that others have left.
        calibre: the radius that its own varies about.
    """

    def __init__(self, rng: np.random.Generator, room: Room, calibre: float) -> None:
        self._rng, self._room, self._calibre = rng, room, calibre
        self._balls = np.empty((2 * LARGEST, 7))  # position, direction, radius
        self._begins: list[bool] = []

    def __len__(self) -> int:
        return len(self._begins)

    @property
    def positions(self) -> Points:
        """The middle of each ball, (n, 3)."""
        return self._balls[: len(self), :3]

    @property
    def directions(self) -> Points:
        """The direction of the tube at each ball, (n, 3)."""
        return self._balls[: len(self), 3:6]

    @property
    def radii(self) -> NDArray[np.float64]:
        """The radius of each ball, (n,)."""
        return self._balls[: len(self), 6]

    @property
    def begins(self) -> NDArray[np.bool_]:
        """True for the first ball of each branch, (n,)."""
        return np.array(self._begins)

    def grow(self, start: Points) -> None:
        """Grow both ways from a point, then branch after branch."""
        direction = unit(self._rng.standard_normal(3))
        self._put(start, direction, min(self._calibre, START - APART), begins=True)
        branches = [(0, direction), (0, -direction)]
        while branches and len(self) < LARGEST:
            branches += self._extend(*branches.pop(0))

    def _extend(self, root: int, direction: Points) -> list[tuple[int, Points]]:
        """Grow one branch; return the ball and the direction of each branch that leaves it."""
        rng, branches = self._rng, []
        position, radius = self.positions[root], self.radii[root]
        # the least length along the neurite from each of its balls to the tip
        path = np.linalg.norm(self.positions - position, axis=1)
        wander = unit(rng.standard_normal(3))
        for length in range(LARGEST):
            path += STEP
            wander = unit(wander + 0.5 * rng.standard_normal(3))
            ways = unit(direction + 0.25 * wander + 0.45 * rng.standard_normal((16, 3)))
            ends, ahead = position + STEP * ways, ways @ direction
            wanted = radius + 0.12 * self._calibre * rng.standard_normal()
            radius = min(max(wanted, 0.6 * self._calibre), 1.5 * self._calibre)
            widest = self._room.distances(ends) - APART
            free = (widest > THINNEST) & (ahead > 0.6) & self._room.contains(ends)
            # it keeps apart from its own balls, too
            away = ((ends[:, None] - self.positions) ** 2).sum(axis=-1)
            free &= (away > np.minimum(0.45 * path, 2 * radius + 1.3 * APART) ** 2).all(axis=1)
            if not free.any():
                break
            best = int(np.argmax(np.where(free, np.minimum(widest, 1.3 * radius) + 25 * ahead, -np.inf)))
            position, direction = ends[best], unit(0.6 * direction + ways[best])
            radius = min(radius, float(widest[best]))
            self._put(position, direction, radius, begins=length == 0)
            path = np.append(path, 0.0)
            if length > 4 and rng.random() < BRANCHING:
                aside = unit(np.cross(direction, rng.standard_normal(3)))
                branches.append((len(self) - 1, unit(0.4 * direction + aside)))
        return branches

    def _put(self, position: Points, direction: Points, radius: float, *, begins: bool) -> None:
        self._balls[len(self)] = *position, *direction, radius
        self._begins.append(begins)


def box_around(middle: Points, reach: float, shape: Sequence[int]) -> tuple[slice, ...]:
    """Return the box of voxels whose centres lie within reach of a point along each axis.

    Args:
        middle: the point, in voxels from the corner of the first one.
        reach: voxels.
        shape: voxels of the array.
    """
    begin = np.clip(np.ceil(middle - reach - 0.5), 0, shape).astype(int)
    end = np.clip(np.floor(middle + reach + 0.5), begin, shape).astype(int)
    return tuple(map(slice, begin.tolist(), end.tolist()))


def unit(vectors: Points) -> Points:
    """Return vectors (..., 3) of length 1."""
    return vectors / np.sqrt((vectors**2).sum(axis=-1, keepdims=True))
