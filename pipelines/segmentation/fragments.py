"""The files of the fragments of one class: a volume of ids, and a table and the edges of every block."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from funlib.geometry import Roi

from scalenet_gp.pipelines.blockwise import block_file
from scalenet_gp.segmentation import number_objects
from scalenet_gp.volumes import StoredArray, create_array, open_array

__all__ = ["Fragments"]


@final
@dataclass(frozen=True)
class Fragments:
    """Fragments of blocks, and the objects that they make. ROIs count voxels from the corner of the region.

    Args:
        path: folder of the files.
        shape: voxels of the region.
        block: voxels of a block.
        chunks: voxels of a chunk.
        volume: the volume of ids, where it is not among the files.
    """

    path: Path
    shape: tuple[int, ...]
    block: tuple[int, ...]
    chunks: tuple[int, ...]
    volume: Path | None = None

    def create(self, basins: bool = False, scores: bool = False) -> None:
        """Create the files, in place of others, but for a volume of ids that is elsewhere.

        Args:
            basins: for parts of basins, with their heights and passes.
            scores: for fragments that are joined by scores of the edges between them.
        """
        shutil.rmtree(self.path, ignore_errors=True)
        for folder in (self._tables, self._edges, self._passes, self._scores):
            if (basins or folder != self._passes) and (scores or folder != self._scores):
                folder.mkdir(parents=True)
        if self.volume is None:
            create_array(self.path / "ids", self.shape, self.chunks, np.dtype(np.uint64))
        if basins:
            create_array(self.path / "heights", self.shape, self.chunks, np.dtype(np.uint32))

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of blocks along each axis."""
        return tuple(-(-extent // length) for extent, length in zip(self.shape, self.block, strict=True))

    def base(self, roi: Roi) -> int:
        """Return the number that the ids of a block's fragments follow: none is another block's."""
        return self._index(roi) * math.prod(self.block)

    def write(self, roi: Roi, labels: np.ndarray, rows: np.ndarray) -> None:
        """Store a block: its components from 1 on, and their measures.

        Raises:
            OSError: it cannot be written.
        """
        ids = np.where(labels > 0, labels + np.uint64(self.base(roi)), np.uint64(0))
        self._ids.write(_box(roi.begin, roi.end), ids)
        _save(self._tables / f"{self._index(roi)}.npy", rows)

    def read(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray:
        """Return the ids in a box, uint64.

        Raises:
            OSError: they cannot be read.
        """
        return self._ids[_box(begin, end)]

    def write_edges(self, roi: Roi, pairs: np.ndarray) -> None:
        """Store the pairs of ids that connect a block with those behind it."""
        _save(self._edges / f"{self._index(roi)}.npy", pairs)

    def write_heights(self, roi: Roi, heights: np.ndarray) -> None:
        """Store the heights of a block's voxels."""
        self._heights.write(_box(roi.begin, roi.end), heights)

    def read_heights(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray:
        """Return the heights in a box, uint32."""
        return self._heights[_box(begin, end)]

    def write_passes(self, roi: Roi, passes: np.ndarray) -> None:
        """Store the passes of a block: see :func:`.find_passes`."""
        _save(self._passes / f"{self._index(roi)}.npy", passes)

    def write_scores(self, roi: Roi, edges: np.ndarray) -> None:
        """Store the edges of a block's voxels: see :data:`.EDGE_TYPE`."""
        _save(self._scores / f"{self._index(roi)}.npy", edges)

    def write_kinds(self, roi: Roi, sums: np.ndarray) -> None:
        """Store the sums of the probabilities of kinds in a block's fragments: see :func:`.sum_kinds`."""
        _save(self._scores / f"kinds_{self._index(roi)}.npy", sums)

    def kinds(self) -> np.ndarray:
        """Return the sums of the probabilities of kinds in all fragments."""
        return self._all(self._scores, "kinds_")

    def rows(self) -> np.ndarray:
        """Return the measures of all fragments, sorted by id."""
        return self._all(self._tables)

    def links(self) -> np.ndarray:
        """Return the pairs that :meth:`write_edges` stored."""
        return self._all(self._edges)

    def passes(self) -> np.ndarray:
        """Return the passes of all blocks."""
        return self._all(self._passes)

    def scores(self) -> np.ndarray:
        """Return the edges of all blocks."""
        return self._all(self._scores)

    def merge(
        self, choose: Callable[[np.ndarray], np.ndarray], join: Callable[[np.ndarray], tuple[np.ndarray, int]]
    ) -> np.ndarray:
        """Store the number of every fragment's object.

        Args:
            choose: returns which objects are numbered: see :func:`.number_objects`.
            join: returns from the measures of all fragments the object of each, and their number.

        Returns:
            The measures of the numbered objects.

        Raises:
            OSError: files cannot be read or written.
        """
        rows = self.rows()
        numbers, numbered = number_objects(rows, *join(rows), choose)
        self.write_numbers(rows["id"], numbers, numbered)
        return numbered

    def write_numbers(self, ids: np.ndarray, numbers: np.ndarray, objects: np.ndarray) -> None:
        """Store the number of each fragment's object, and the measures of the numbered objects."""
        _save(self.path / "fragments.npy", ids)
        _save(self.path / "numbers.npy", numbers)
        _save(self.path / "objects.npy", objects)

    def objects(self) -> np.ndarray:
        """Return the objects that :meth:`merge` has numbered."""
        return np.load(self.path / "objects.npy")

    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all fragments, sorted, and their numbers; both are read from the disk where needed."""
        ids, numbers = (np.load(self.path / f"{name}.npy", mmap_mode="r") for name in ("fragments", "numbers"))
        return ids, numbers

    @cached_property
    def _ids(self) -> StoredArray:
        return open_array(self.path / "ids" if self.volume is None else self.volume)

    @cached_property
    def _heights(self) -> StoredArray:
        return open_array(self.path / "heights")

    def _all(self, folder: Path, prefix: str = "") -> np.ndarray:
        """Return the rows of all blocks."""
        return np.concatenate([np.load(folder / f"{prefix}{block}.npy") for block in range(math.prod(self.grid))])

    @property
    def _passes(self) -> Path:
        return self.path / "passes"

    @property
    def _scores(self) -> Path:
        return self.path / "scores"

    @property
    def _tables(self) -> Path:
        return self.path / "tables"

    @property
    def _edges(self) -> Path:
        return self.path / "edges"

    def _index(self, roi: Roi) -> int:
        place = tuple(int(begin) // length for begin, length in zip(roi.begin, self.block, strict=True))
        return int(np.ravel_multi_index(place, self.grid))


def _box(begin: Sequence[int], end: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(int(b), int(e)) for b, e in zip(begin, end, strict=True))


def _save(path: Path, array: np.ndarray) -> None:
    with block_file(path) as file:
        np.save(file, array, allow_pickle=False)
