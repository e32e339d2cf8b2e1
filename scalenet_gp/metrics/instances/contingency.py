"""The overlaps of true and predicted objects, counted block by block."""

from __future__ import annotations

from typing import final

import numpy as np

from scalenet_gp.errors import DataError

__all__ = ["ContingencyTable", "sizes_of"]

_PENDING = 2**16
"""Pairs of blocks that are kept apart before they are merged, at least."""


@final
class ContingencyTable:
    """Counts the voxels of every pair of a true and a predicted object.

    Blocks are added one by one, in any order; an object may lie in any number of them. The table has an entry for each
    pair that occurs, so its memory is about 50 bytes for each overlap, whatever the size of the volume and of the ids.
    The id 0 is the background, and is counted as well: metrics say what they do with it.

    Attributes:
        truth: the true id of each pair, uint64, in ascending order.
        segmentation: the predicted id of each pair, uint64, in ascending order for each true id.
        voxels: the voxels of each pair, int64.

    Example:
        >>> table = ContingencyTable()
        >>> table.update(np.array([1, 1, 1, 2]), np.array([5, 5, 6, 6]))
        >>> table.update(np.array([2, 2, 0, 0]), np.array([6, 6, 6, 0]))
        >>> table.truth.tolist(), table.segmentation.tolist(), table.voxels.tolist()
        ([0, 0, 1, 1, 2], [0, 6, 5, 6, 6], [1, 1, 2, 1, 3])
    """

    def __init__(self) -> None:
        self._merged = _no_pairs()
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._pending = 0

    def update(self, truth: np.ndarray, segmentation: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Add the voxels of a block.

        Args:
            truth: true ids, 0 for none, in any shape.
            segmentation: predicted ids, 0 for none, in the same shape.
            mask: above 0 where the truth is annotated, in the same shape; everywhere if None. Other voxels do not
                count.

        Raises:
            DataError: ids below 0 or of a fractional number type, or shapes that differ.
        """
        if truth.shape != segmentation.shape or (mask is not None and mask.shape != truth.shape):
            shapes = f"the truth has the shape {truth.shape}, the segmentation {segmentation.shape}"
            raise DataError(f"{shapes}{'' if mask is None else f', the mask {mask.shape}'}; they have to be the same")
        ids = [_as_ids(truth, "truth"), _as_ids(segmentation, "segmentation")]
        if mask is not None and not (known := np.ravel(mask) > 0).all():
            ids = [of[known] for of in ids]
        if ids[0].size:
            self._add(_sum_alike(*_runs(*ids)))

    def merge(self, other: ContingencyTable) -> None:
        """Add the voxels of another table, of other blocks of the same volume."""
        self._add(other._pairs())

    def with_objects(self, fragments: np.ndarray, objects: np.ndarray) -> ContingencyTable:
        """Return the table of the objects that predicted fragments make.

        Args:
            fragments: ids of fragments, sorted.
            objects: the id of each one's object. Other ids are in none: 0.

        Example:
            >>> table = ContingencyTable()
            >>> table.update(np.array([1, 1, 2]), np.array([5, 6, 7]))
            >>> joined = table.with_objects(np.array([5, 6]), np.array([3, 3]))
            >>> joined.segmentation.tolist(), joined.voxels.tolist()
            ([3, 0], [2, 1])
        """
        truth, segmentation, voxels = self._pairs()
        place = np.minimum(np.searchsorted(fragments, segmentation), max(len(fragments) - 1, 0))
        found = np.zeros(len(segmentation), np.uint64)
        if len(fragments):
            known = fragments[place] == segmentation
            found[known] = objects[place[known]]
        joined = ContingencyTable()
        if len(truth):
            joined._add(_sum_alike(truth, found, voxels))
        return joined

    @property
    def truth(self) -> np.ndarray:
        """The true id of each pair."""
        return self._pairs()[0]

    @property
    def segmentation(self) -> np.ndarray:
        """The predicted id of each pair."""
        return self._pairs()[1]

    @property
    def voxels(self) -> np.ndarray:
        """The voxels of each pair."""
        return self._pairs()[2]

    def __len__(self) -> int:
        return len(self.truth)

    def _add(self, pairs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        self._blocks.append(pairs)
        self._pending += len(pairs[0])
        if self._pending > max(_PENDING, len(self._merged[0])):  # so that a pair is sorted a few times, not every time
            self._pairs()

    def _pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._blocks:
            joined = map(np.concatenate, zip(self._merged, *self._blocks, strict=True))
            self._merged, self._blocks, self._pending = _sum_alike(*joined), [], 0
        return self._merged


def sizes_of(ids: np.ndarray, voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the objects among pairs.

    Args:
        ids: the true or the predicted id of each pair.
        voxels: of each pair.

    Returns:
        The ids, each once and in order; the index of each pair's object among them; and the voxels of each object as
        floats, which squares of many fit in.
    """
    known, index = np.unique(ids, return_inverse=True)
    return known, index, np.bincount(index, weights=voxels, minlength=len(known))


def _no_pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64)


def _runs(truth: np.ndarray, segmentation: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ids and the length of every run of voxels that are alike: far fewer than voxels, if objects are."""
    begins = np.ones(len(truth), dtype=bool)
    np.not_equal(truth[1:], truth[:-1], out=begins[1:])
    begins[1:] |= segmentation[1:] != segmentation[:-1]
    first = np.flatnonzero(begins)
    lengths = np.diff(first, append=len(truth))
    return truth[first].astype(np.uint64), segmentation[first].astype(np.uint64), lengths


def _sum_alike(
    truth: np.ndarray, segmentation: np.ndarray, voxels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every pair once, in order, with the sum of its voxels."""
    order = np.lexsort((segmentation, truth))
    truth, segmentation = truth[order], segmentation[order]
    new = np.ones(len(truth), dtype=bool)
    new[1:] = (truth[1:] != truth[:-1]) | (segmentation[1:] != segmentation[:-1])
    first = np.flatnonzero(new)
    return truth[first], segmentation[first], np.add.reduceat(voxels[order], first)


def _as_ids(labels: np.ndarray, name: str) -> np.ndarray:
    """Return ids as one row.

    Raises:
        DataError: they are not ids.
    """
    if labels.dtype.kind not in "biu":
        raise DataError(f"the {name} is of {labels.dtype}; ids have to be whole numbers")
    if labels.dtype.kind == "i" and labels.min(initial=0) < 0:
        raise DataError(f"the {name} has the id {labels.min()}; ids are 0 or above")
    return labels.ravel()
