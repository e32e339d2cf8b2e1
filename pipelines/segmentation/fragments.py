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

from scalenet_gp.segmentation import join_basins, join_fragments, number_objects
from scalenet_gp.serialization import atomic_write
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
    """

    path: Path
    shape: tuple[int, ...]
    block: tuple[int, ...]
    chunks: tuple[int, ...]

    def create(self, basins: bool = False) -> None:
        """Create the files, in place of others; for parts of basins, those of heights and passes too."""
        shutil.rmtree(self.path, ignore_errors=True)
        for folder in (self._tables, self._edges, *([self._passes] if basins else [])):
            folder.mkdir(parents=True)
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

    def merge(self, choose: Callable[[np.ndarray], np.ndarray], depth: float | None = None) -> np.ndarray:
        """Store the number of every fragment's object.

        Args:
            choose: returns which objects are numbered: see :func:`.number_objects`.
            depth: of parts of basins, the depth that parts objects: see :func:`.join_basins`.

        Returns:
            The measures of the numbered objects.

        Raises:
            OSError: files cannot be read or written.
        """
        rows, edges = self._all(self._tables), self._all(self._edges)
        if depth is None:
            of_fragment, count = join_fragments(rows["id"], edges)
        else:
            of_fragment, count = join_basins(rows, edges, self._all(self._passes), depth)
        numbers, numbered = number_objects(rows, of_fragment, count, choose)
        _save(self.path / "fragments.npy", rows["id"])
        _save(self.path / "numbers.npy", numbers)
        _save(self.path / "objects.npy", numbered)
        return numbered

    def objects(self) -> np.ndarray:
        """Return the objects that :meth:`merge` has numbered."""
        return np.load(self.path / "objects.npy")

    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all fragments, sorted, and their numbers; both are read from the disk where needed."""
        ids, numbers = (np.load(self.path / f"{name}.npy", mmap_mode="r") for name in ("fragments", "numbers"))
        return ids, numbers

    @cached_property
    def _ids(self) -> StoredArray:
        return open_array(self.path / "ids")

    @cached_property
    def _heights(self) -> StoredArray:
        return open_array(self.path / "heights")

    def _all(self, folder: Path) -> np.ndarray:
        """Return the rows of all blocks."""
        return np.concatenate([np.load(folder / f"{block}.npy") for block in range(math.prod(self.grid))])

    @property
    def _passes(self) -> Path:
        return self.path / "passes"

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
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.save(file, array, allow_pickle=False)
