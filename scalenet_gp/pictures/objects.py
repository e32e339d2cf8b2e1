"""Colors of objects, by which neighbours are told apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scalenet_gp.pictures.panels import class_colors

__all__ = ["color_objects"]

_COLORS = 10
"""Different colors of :func:`.class_colors`."""

_GAP = 6
"""Objects are neighbours across a gap of up to twice as many pixels."""


def color_objects(reference: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Return the objects of sections as colors (Y, X, 3) in [0, 1], neighbours in different ones; black where none is.

    An object of the other sections has the color of the object of ``reference`` that it overlaps most, if that one
    overlaps it most, too. So pieces of a split object differ in color, and merged ones lose theirs.

    Args:
        reference: ids of a section (Y, X), 0 for none.
        others: ids of the same section, found in other ways.

    Example:
        >>> truth = np.array([[1, 1, 1, 0, 2, 2]])
        >>> true, split = color_objects(truth, np.array([[7, 7, 9, 0, 5, 5]]))
        >>> np.unique(true[0], axis=0).shape, np.array_equal(split[0, :2], true[0, :2])
        ((3, 3), True)
    """
    chosen = _choose(reference, {})
    pictures = [_paint(reference, chosen)]
    for ids in others:
        wanted = {own: chosen[true] for own, true in _matched(ids, reference)}
        pictures.append(_paint(ids, _choose(ids, wanted)))
    return pictures


def _choose(ids: np.ndarray, wanted: Mapping[int, int]) -> dict[int, int]:
    """Return the index of a color for each object: the wanted one, unless a neighbour that is larger has it."""
    neighbours = _neighbours(ids)
    values, sizes = np.unique(ids[ids > 0], return_counts=True)
    order = values[np.lexsort((values, -sizes))].tolist()
    chosen: dict[int, int] = {}
    used = np.zeros(_COLORS, int)
    for own in sorted(order, key=lambda own: own not in wanted):
        taken = {chosen[other] for other in neighbours.get(own, ()) if other in chosen}
        free = [color for color in np.argsort(used, kind="stable").tolist() if color not in taken]
        choice = wanted.get(own, -1)
        if choice < 0 or choice in taken:
            choice = free[0] if free else int(np.argmin(used))
        chosen[own] = choice
        used[choice] += 1
    return chosen


def _neighbours(ids: np.ndarray) -> dict[int, set[int]]:
    """Return the neighbours of each object, across the gap between them."""
    from scipy.ndimage import distance_transform_edt

    if not ids.any():
        return {}
    distance, nearest = distance_transform_edt(ids == 0, return_indices=True)
    grown = np.where(distance <= _GAP, ids[tuple(nearest)], 0)
    found: dict[int, set[int]] = {}
    for one, other in ((grown[1:], grown[:-1]), (grown[:, 1:], grown[:, :-1])):
        touch = (one != other) & (one > 0) & (other > 0)
        for a, b in np.unique(np.stack([one[touch], other[touch]], axis=1), axis=0).tolist():
            found.setdefault(a, set()).add(b)
            found.setdefault(b, set()).add(a)
    return found


def _matched(ids: np.ndarray, reference: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs of objects that overlap each other most."""
    both = (ids > 0) & (reference > 0)
    pairs, counts = np.unique(np.stack([ids[both], reference[both]], axis=1), axis=0, return_counts=True)
    pairs = pairs[np.argsort(-counts, kind="stable")]
    best = [dict(reversed(list(zip(pairs[:, a].tolist(), pairs[:, 1 - a].tolist(), strict=True)))) for a in (0, 1)]
    return [(own, true) for own, true in best[0].items() if best[1][true] == own]


def _paint(ids: np.ndarray, chosen: Mapping[int, int]) -> np.ndarray:
    """Return objects in their colors."""
    values, index = np.unique(ids, return_inverse=True)
    palette = class_colors(_COLORS)
    black = np.zeros(3, np.float32)
    colors = np.stack([palette[chosen[value]] if value else black for value in values.tolist()])
    return colors[index].reshape(*ids.shape, 3)
