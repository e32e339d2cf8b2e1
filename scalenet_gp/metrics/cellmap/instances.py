"""Objects of a crop: predicted components, their matching with the true objects, and the distances between the two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scalenet_gp.errors import DataError
from scalenet_gp.metrics.cellmap.rule import COST_SCALE, DISTANCE_BASE, MOST_PAIRS, most_components

__all__ = ["InstanceCounts", "connected_objects", "count_missing_instances", "score_instances"]

_VOXELS = 2**22  # counted at a time
_FEW = 5000  # voxels that are searched one by one
_DENSE = 4  # boxes of this many times the volume of what they hold are searched as a whole


@dataclass(frozen=True, slots=True)
class InstanceCounts:
    """Objects of one class, and the scores that follow from them. The counts of several crops add up.

    Attributes:
        true_positive: true objects that are matched with a predicted one.
        false_positive: predicted objects that are not matched.
        false_negative: true objects that are not matched.
        distance_scores: the sum of ``1.01 ** (-distance / voxel diagonal)`` over distances.
        distances: the number of distances: one for each true object, and one for each false positive.
        skipped: crops that count for nothing, because they have too many predicted objects.

    Example:
        >>> counts = InstanceCounts(3, false_positive=1, false_negative=1, distance_scores=4.5, distances=5)
        >>> counts.f1, counts.distance_score
        (0.75, 0.9)
    """

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    distance_scores: float = 0.0
    distances: int = 0
    skipped: int = 0

    def __add__(self, other: InstanceCounts) -> InstanceCounts:
        return InstanceCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.distance_scores + other.distance_scores,
            self.distances + other.distances,
            self.skipped + other.skipped,
        )

    @property
    def f1(self) -> float:
        """The F1 score of the matching; 1 if there are no objects."""
        hits = 2 * self.true_positive
        below = hits + self.false_positive + self.false_negative
        return hits / below if below else 1.0

    @property
    def distance_score(self) -> float:
        """The mean score of the distances, the challenge's normalised Hausdorff distance; 1 if there are none."""
        return self.distance_scores / self.distances if self.distances else 1.0

    @property
    def combined(self) -> float:
        """The geometric mean of the F1 score and the distance score."""
        return float(np.sqrt(self.f1 * self.distance_score))


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """The matching of a crop's predicted components with its true objects, and their distances.

    Attributes:
        ids: the ids of the true objects, in the order in which they occur.
        components: the number of predicted components; they have the numbers 1, 2, ...
        matches: the component of each true object; 0 for none.
        limit: the largest distance, nm.
        distances: of each true object, nm.
        collisions: unmatched components whose number is the id of a true object, to whose match they are added.
        skipped: there are too many components, or too many overlaps, to match them.
    """

    ids: np.ndarray
    components: int
    limit: float
    matches: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    distances: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    collisions: tuple[int, ...] = ()
    skipped: bool = False


def score_instances(
    prediction: np.ndarray, truth: np.ndarray, voxel_size: Sequence[float], mask: np.ndarray | None = None
) -> InstanceCounts:
    """Return the counts of one crop of an instance class.

    Predicted objects are connected components (26 neighbours) of equal ids. True objects are the voxels of an id,
    connected or not. They are matched one to one, so that the sum of their intersections over union is largest; there
    is no threshold. The distance of a match is the Hausdorff distance between voxel centres, at most half the shortest
    side of the crop; objects without match have that distance.

    Takes about 6 bytes for each voxel besides the arrays, and up to 14 where one object fills the crop.

    Args:
        prediction: ids on the lattice of the truth, 0 for none, (z, y, x).
        truth: ids, 0 for none, in the same shape.
        voxel_size: nm.
        mask: above 0 where the truth is annotated, in the same shape; everywhere if None.

    Raises:
        DataError: ids below 0 or of a fractional number type, or shapes that differ.

    Example:
        >>> truth = np.zeros((1, 8, 8), np.uint8)
        >>> truth[0, :2], truth[0, 5:] = 1, 2
        >>> score_instances(truth == 1, truth, (8, 8, 8)).f1
        0.6666666666666666
    """
    found = match_instances(prediction, truth, voxel_size, mask)
    if found.skipped:
        return InstanceCounts(skipped=1)
    matched = int((found.matches > 0).sum())
    extra = found.components - matched
    diagonal = float(np.linalg.norm(np.asarray(voxel_size, float)))
    distances = np.concatenate([found.distances.astype(float), np.full(extra, found.limit)])
    return InstanceCounts(
        matched,
        extra,
        len(found.ids) - matched,
        float((DISTANCE_BASE ** (-distances / diagonal)).sum()),
        len(distances),
    )


def count_missing_instances(truth: np.ndarray, mask: np.ndarray | None = None) -> InstanceCounts:
    """Return the counts of a crop for which nothing was submitted: all is missed, and every distance scores 0."""
    _, ids = _renumber(truth if mask is None else np.where(mask > 0, truth, 0), "truth")
    return InstanceCounts(false_negative=len(ids), distances=len(ids))


def connected_objects(mask: np.ndarray) -> np.ndarray:
    """Return the objects of a mask: connected components (26 neighbours) with the ids 1, 2, ...

    Example:
        >>> connected_objects(np.array([[[True, False, True]]])).tolist()
        [[[1, 0, 2]]]
    """
    from cc3d import connected_components  # slow to import

    objects: np.ndarray = connected_components(np.ascontiguousarray(mask, np.uint8), connectivity=26)
    return objects


def match_instances(
    prediction: np.ndarray, truth: np.ndarray, voxel_size: Sequence[float], mask: np.ndarray | None = None
) -> Matching:
    """Match the objects of one crop: see :func:`score_instances`."""
    from cc3d import connected_components  # slow to import

    if prediction.shape != truth.shape or (mask is not None and mask.shape != truth.shape):
        shapes = f"the prediction has the shape {prediction.shape}, the truth {truth.shape}"
        raise DataError(f"{shapes}{'' if mask is None else f', the mask {mask.shape}'}; they have to be the same")
    if mask is not None:
        prediction, truth = (np.where(mask > 0, labels, 0) for labels in (prediction, truth))
    labels = np.ascontiguousarray(_as_ids(prediction, "prediction"))
    components, count = connected_components(labels, connectivity=26, return_N=True)
    del labels
    objects, ids = _renumber(truth, "truth")
    limit = min(size * length / 2 for size, length in zip(voxel_size, truth.shape, strict=True))
    largest = int(ids.max(initial=0))
    if largest and count > most_components(largest):
        return Matching(ids, count, limit, skipped=True)
    pairs, voxels = _count_pairs(objects, components, count)
    if len(voxels) - (pairs == 0).any(axis=0).sum() > MOST_PAIRS:
        return Matching(ids, count, limit, skipped=True)
    matches = _match(pairs, voxels, len(ids), count)
    owner, collisions = _owners(matches, ids, count)
    distances = _distances(objects, components, owner, len(ids), tuple(map(float, voxel_size)), limit)
    return Matching(ids, count, limit, matches, distances, collisions)


def hausdorff_distance(
    first: np.ndarray, second: np.ndarray, voxel_size: Sequence[float], limit: float = np.inf
) -> float:
    """Return the Hausdorff distance between the voxels of two masks, neither of them empty, or ``limit`` if it is less.

    It is exact: computed in float64 for the voxels whose distance in single precision is near the largest.
    """
    there = _directed_distance(first & ~second, second, voxel_size, limit)
    return there if there >= limit else max(there, _directed_distance(second & ~first, first, voxel_size, limit))


def _directed_distance(apart: np.ndarray, other: np.ndarray, voxel_size: Sequence[float], limit: float) -> float:
    """Return the largest distance of voxels of ``apart`` from the nearest one of ``other``."""
    if np.count_nonzero(apart) > _FEW:
        from edt import edt  # slow to import

        field = edt(~other, anisotropy=tuple(voxel_size), black_border=False, parallel=1)
        field[~apart] = 0
        largest = float(field.max())
        if largest > 1.001 * limit:
            return limit
        apart = field > 0.9999 * largest  # in single precision
    return _largest_distance(np.argwhere(apart), np.argwhere(_surface(other)), voxel_size, limit)


def _largest_distance(voxels: np.ndarray, others: np.ndarray, voxel_size: Sequence[float], limit: float) -> float:
    """Return the largest distance of ``voxels`` (voxel, axis) from the nearest of ``others``, at most ``limit``."""
    from scipy.spatial import KDTree  # slow to import

    if not len(voxels):
        return 0.0
    tree = KDTree(others * np.asarray(voxel_size))
    nearest, _ = tree.query(voxels * np.asarray(voxel_size), distance_upper_bound=np.nextafter(limit, np.inf))
    return min(limit, float(nearest.max()))


def _surface(mask: np.ndarray) -> np.ndarray:
    """Return the voxels of a mask that lie at the border of the array or beside a voxel outside of the mask."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        along, inner = (np.moveaxis(array, axis, 0) for array in (mask, inside))
        inner[0] = inner[-1] = False
        inner[1:] &= along[:-1]
        inner[:-1] &= along[1:]
    return mask & ~inside


def _as_ids(labels: np.ndarray, name: str) -> np.ndarray:
    """Return ids in a type that the libraries know.

    Raises:
        DataError: they are not ids.
    """
    if labels.dtype.kind == "b":
        return labels.view(np.uint8)
    if labels.dtype.kind not in "iu":
        raise DataError(f"the {name} of an instance class is of {labels.dtype}; ids have to be whole numbers")
    if labels.dtype.kind == "i" and labels.min(initial=0) < 0:
        raise DataError(f"the {name} has the id {labels.min()}; ids are 0 or above")
    return labels


def _renumber(labels: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels numbered 1, 2, ... and the id that each number stands for."""
    from fastremap import renumber  # slow to import

    numbered, numbers = renumber(np.ascontiguousarray(_as_ids(labels, name)), preserve_zero=True)
    ids = np.zeros(max(map(int, numbers.values()), default=0), np.uint64)
    for old, new in numbers.items():
        if new:
            ids[int(new) - 1] = old
    return numbered, ids


def _count_pairs(objects: np.ndarray, components: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of object and component (2, pair) that voxels have, and the number of voxels of each."""
    keys, voxels = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    step = np.uint64(count + 1)
    for begin in range(0, objects.size, _VOXELS):
        part = slice(begin, begin + _VOXELS)
        key = objects.reshape(-1)[part].astype(np.uint64)
        key *= step
        key += components.reshape(-1)[part]
        # runs of equal pairs are far fewer than voxels
        first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        found, run = np.unique(key[first], return_inverse=True)
        keys.append(found)
        voxels.append(np.bincount(run, weights=np.diff(first, append=len(key))).astype(np.int64))
    found, part_of = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.zeros(len(found), np.int64)
    np.add.at(total, part_of, np.concatenate(voxels))
    return np.stack(np.divmod(found, step)).astype(np.int64), total


def _match(pairs: np.ndarray, voxels: np.ndarray, objects: int, components: int) -> np.ndarray:
    """Return the component that each object is matched with, 0 for none."""
    from scipy.sparse import csr_array  # slow to import
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    of_object, of_component = (
        np.bincount(numbers, weights=voxels, minlength=length + 1)
        for numbers, length in zip(pairs, (objects, components), strict=True)
    )
    both = (pairs > 0).all(axis=0)
    (rows, columns), overlap = pairs[:, both], voxels[both]
    shares = (overlap / (of_object[rows] + of_component[columns] - overlap)).astype(np.float32)
    costs = np.floor((1 - shares.astype(float)) * COST_SCALE)
    known, row = np.unique(rows, return_inverse=True)
    matches = np.zeros(objects, np.int64)
    if not len(known):
        return matches
    # each object can take a column of its own instead, which stands for no match; one more for all, as 0 is no edge
    own = np.arange(len(known))
    weights = np.concatenate([costs, np.full(len(known), COST_SCALE + 1)]) + 1
    edges = np.concatenate([row, own]), np.concatenate([columns - 1, components + own])
    graph = csr_array((weights, edges), shape=(len(known), components + len(known)))
    row, column = min_weight_full_bipartite_matching(graph)
    taken = column < components
    matches[known[row[taken]] - 1] = column[taken] + 1
    return matches


def _owners(matches: np.ndarray, ids: np.ndarray, count: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the object that each component stands for when distances are measured, and the collisions.

    A component that is not matched keeps its number, which may be the id of a true object: then it stands for that.
    """
    owner = np.zeros(count + 1, np.int64)
    owner[matches[matches > 0]] = np.flatnonzero(matches) + 1
    numbers = {int(number): index for index, number in enumerate(ids, start=1) if number <= count}
    collisions = tuple(sorted(number for number in numbers if not owner[number]))
    for number in collisions:
        owner[number] = numbers[number]
    return owner, collisions


def _distances(
    objects: np.ndarray,
    components: np.ndarray,
    owner: np.ndarray,
    count: int,
    voxel_size: tuple[float, ...],
    limit: float,
) -> np.ndarray:
    """Return the distance of each object from the components that stand for it."""
    distances = np.full(count, limit, np.float32)
    if not owner.any():
        return distances
    from cc3d import statistics  # slow to import

    of_objects, of_components = (statistics(labels)["bounding_boxes"] for labels in (objects, components))
    standing: dict[int, list[int]] = {}
    for component in np.flatnonzero(owner).tolist():
        standing.setdefault(int(owner[component]), []).append(component)
    for number, parts in standing.items():
        boxes = [of_objects[number], *(of_components[part] for part in parts)]
        joint = _joint_box(boxes)
        if _volume(joint) <= _DENSE * sum(map(_volume, boxes)):
            predicted = np.isin(components[joint], parts) if len(parts) > 1 else components[joint] == parts[0]
            distance = hausdorff_distance(objects[joint] == number, predicted, voxel_size, limit)
        else:  # collisions lie anywhere, and most of a box that holds them all is empty
            true, predicted = _Points.of(objects, boxes[:1], [number]), _Points.of(components, boxes[1:], parts)
            distance = max(
                _largest_distance(
                    true.voxels[owner[components[tuple(true.voxels.T)]] != number], predicted.surface, voxel_size, limit
                ),
                _largest_distance(
                    predicted.voxels[objects[tuple(predicted.voxels.T)] != number], true.surface, voxel_size, limit
                ),
            )
        distances[number - 1] = distance
    return distances


@dataclass(frozen=True, slots=True, eq=False)
class _Points:
    """The voxels (voxel, axis) of an object of one part or several, and those at the surfaces of its parts."""

    voxels: np.ndarray
    surface: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, boxes: Sequence[tuple[slice, ...]], numbers: Sequence[int]) -> _Points:
        masks = [labels[box] == number for box, number in zip(boxes, numbers, strict=True)]
        corners = [np.array([along.start for along in box]) for box in boxes]
        voxels, surface = (
            np.concatenate([np.argwhere(mask) + corner for mask, corner in zip(found, corners, strict=True)])
            for found in (masks, map(_surface, masks))
        )
        return cls(voxels, surface)


def _joint_box(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    return tuple(slice(min(s.start for s in along), max(s.stop for s in along)) for along in zip(*boxes, strict=True))


def _volume(box: tuple[slice, ...]) -> int:
    return math.prod(along.stop - along.start for along in box)
