"""Groups of exclusive classes: which class is predicted highest, voxel by voxel and object by object."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np

__all__ = ["GroupCounts", "GroupObjects", "GroupScores"]


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """Voxels or objects of each class of a group of exclusive classes, and how many of them are decided right.

    The class whose predicted value is the highest of the group decides. Where k classes are equally high, the right
    one among them counts as 1/k. So a prediction that says nothing is right for 1/k of them.

    Attributes:
        classes: names of the classes.
        total: number of voxels or objects of each class.
        right: those of them that are decided right.

    Example:
        >>> GroupCounts(("neuron", "glia"), total=(8, 4), right=(6, 1)).accuracy
        0.5
    """

    classes: tuple[str, ...]
    total: tuple[int, ...]
    right: tuple[float, ...]

    @classmethod
    def zero(cls, classes: Iterable[str]) -> Self:
        """Return counts of zero, to add to."""
        classes = tuple(classes)
        return cls(classes, (0,) * len(classes), (0,) * len(classes))

    @classmethod
    def of_voxels(cls, classes: Iterable[str], prediction: np.ndarray, target: np.ndarray, mask: np.ndarray) -> Self:
        """Return the counts of voxels that belong to exactly one class of the group and are annotated for all of them.

        Args:
            classes: names of the classes.
            prediction: predicted values, (class, Z, Y, X), the classes in the order of ``classes``.
            target: above 0 where a voxel is of the class, in the same shape.
            mask: above 0 where the class is annotated, in the same shape.
        """
        true = _true_class(target, mask)
        known = true >= 0
        return cls._decided(classes, true[known], prediction[:, known])

    @classmethod
    def _decided(cls, classes: Iterable[str], true: np.ndarray, values: np.ndarray) -> Self:
        """Return the counts of voxels or objects: the class of each, and its predicted values (class, one each)."""
        classes = tuple(classes)
        values = values.astype(np.result_type(values, np.float32), copy=False)  # of no object, bincount has integers
        with np.errstate(invalid="ignore"):  # a value that is not a number is never the highest
            highest = values == values.max(axis=0, initial=-math.inf)
        share = np.take_along_axis(highest, true[None], axis=0)[0] / np.maximum(highest.sum(axis=0), 1)
        total = np.bincount(true, minlength=len(classes))
        right = np.bincount(true, weights=share, minlength=len(classes))
        return cls(classes, tuple(total.tolist()), tuple(right.tolist()))

    def __add__(self, other: GroupCounts) -> GroupCounts:
        total = tuple(one + more for one, more in zip(self.total, other.total, strict=True))
        right = tuple(one + more for one, more in zip(self.right, other.right, strict=True))
        return GroupCounts(self.classes, total, right)

    @property
    def recall(self) -> dict[str, float]:
        """The share that is decided right, of each class; NaN for a class that does not occur."""
        counts = zip(self.classes, self.total, self.right, strict=True)
        return {label: right / total if total else math.nan for label, total, right in counts}

    @property
    def accuracy(self) -> float:
        """The mean of the classes' recall. Chance is 1 / number of classes. NaN if a class does not occur."""
        return sum(self.recall.values()) / len(self.classes)

    def to_json(self) -> dict[str, Any]:
        """Return counts, recall and accuracy as JSON can hold them, with None for NaN."""
        recall = self.recall
        return {
            "accuracy": _or_none(self.accuracy),
            "classes": {
                label: {"total": total, "right": right, "recall": _or_none(recall[label])}
                for label, total, right in zip(self.classes, self.total, self.right, strict=True)
            },
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Return the counts that :meth:`to_json` was called on.

        Raises:
            KeyError: a count is missing.
        """
        classes = plain["classes"]
        total, right = (tuple(counts[name] for counts in classes.values()) for name in ("total", "right"))
        return cls(tuple(classes), total, right)


GroupScores = dict[str, dict[str, GroupCounts]]
"""The counts of each group of exclusive classes, for each output that has all classes of the group."""


class GroupObjects:
    """Finds objects of a group of exclusive classes block by block, and decides the class of each as a whole.

    An object is a connected component of voxels that belong to exactly one class of the group, the same for all of
    them, and that are annotated for the whole group. Voxels are connected by their faces, also across the faces of
    blocks. The class with the highest sum of predicted values over an object's voxels decides.

    Args:
        classes: names of the classes.

    Example:
        >>> objects = GroupObjects(("neuron", "glia"))
        >>> target = np.array([[[1, 1, 0, 1]], [[0, 0, 1, 0]]])  # two objects of one class, and one of the other
        >>> predicted = np.array([[[0.9, 0.2, 0.1, 0.4]], [[0.1, 0.6, 0.9, 0.5]]])
        >>> objects.add((0, 0), predicted, target, np.ones_like(target))
        >>> objects.counts().recall
        {'neuron': 0.5, 'glia': 1.0}
    """

    def __init__(self, classes: Iterable[str]) -> None:
        self.classes = tuple(classes)
        self._found = 0
        # of the components of single blocks, a block after the other
        self._class = [np.empty(0, np.int64)]
        self._size = [np.empty(0, np.int64)]
        self._sum = [np.empty((len(self.classes), 0))]
        self._touching = [np.empty((2, 0), np.int64)]
        self._faces: dict[tuple[int, tuple[int, ...]], np.ndarray] = {}

    def add(self, begin: Sequence[int], prediction: np.ndarray, target: np.ndarray, mask: np.ndarray) -> None:
        """Add a block. Blocks are those of one grid, in any order; those at its end may be smaller.

        Args:
            begin: position of the block's first voxel.
            prediction: predicted values, (class, Z, Y, X), the classes in the order of ``classes``.
            target: above 0 where a voxel is of the class, in the same shape.
            mask: above 0 where the class is annotated, in the same shape.
        """
        from scipy.ndimage import label  # slow to import

        true = _true_class(target, mask)
        component = np.full(true.shape, -1)
        first = self._found
        for index in range(len(self.classes)):
            labels, count = label(true == index)
            component[labels > 0] = labels[labels > 0] + (self._found - 1)
            self._class.append(np.full(count, index))
            self._found += count
        known = component >= 0
        own, count = component[known] - first, self._found - first
        self._size.append(np.bincount(own, minlength=count))
        self._sum.append(np.array([np.bincount(own, weights=of[known], minlength=count) for of in prediction]))
        self._match_faces(tuple(begin), np.where(known, component * len(self.classes) + true, -1))

    def counts(self, smallest: float | Fraction = 0) -> GroupCounts:
        """Return the counts of objects of ``smallest`` voxels or more."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        pairs = np.concatenate(self._touching, axis=1)
        graph = coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(self._found, self._found))
        count, whole = connected_components(graph, directed=False)
        true = np.zeros(count, np.int64)
        true[whole] = np.concatenate(self._class)
        size = np.zeros(count, np.int64)
        np.add.at(size, whole, np.concatenate(self._size))
        sums = np.concatenate(self._sum, axis=1)
        values = np.array([np.bincount(whole, weights=of, minlength=count) for of in sums])
        large = np.array([voxels >= smallest for voxels in size.tolist()], dtype=bool)
        return GroupCounts._decided(self.classes, true[large], values[:, large])

    def _match_faces(self, begin: tuple[int, ...], codes: np.ndarray) -> None:
        """Note the components that touch those of neighbouring blocks. A code is of a component and its class."""
        for axis, length in enumerate(codes.shape):
            for side, position in ((0, begin[axis]), (-1, begin[axis] + length)):
                key = (axis, (*begin[:axis], position, *begin[axis + 1 :]))
                face = codes.take(side, axis)
                other = self._faces.pop(key, None)
                if other is None:
                    self._faces[key] = face
                    continue
                same = (face >= 0) & (other >= 0) & (face % len(self.classes) == other % len(self.classes))
                pairs = np.unique(np.stack([face[same], other[same]]), axis=1)
                self._touching.append(pairs // len(self.classes))


def _true_class(target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the index of the only class that each voxel belongs to; -1 for none, several or without annotation."""
    member = target > 0
    known = (member.sum(axis=0) == 1) & (mask > 0).all(axis=0)
    return np.where(known, member.argmax(axis=0), -1)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
