"""Look-up tables from fragments to objects, one for each threshold, beside the volume of fragments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import numpy as np

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.pipelines.blockwise import block_file

__all__ = ["LookupTables"]

_FILE = "lookup.npz"


@final
@dataclass(frozen=True, slots=True, eq=False)
class LookupTables:
    """The object of every fragment, for each of several thresholds.

    Attributes:
        fragments: the ids of all fragments, sorted, uint64.
        thresholds: in ascending order.
        objects: for each threshold the number of each fragment's object; 0 if it is in none.

    Example:
        >>> tables = LookupTables(np.array([3, 8], np.uint64), (0.2, 0.6), (np.array([1, 2]), np.array([1, 1])))
        >>> [int(numbers.max()) for numbers in tables.objects]
        [2, 1]
    """

    fragments: np.ndarray
    thresholds: tuple[float, ...]
    objects: tuple[np.ndarray, ...]

    def write(self, volume: Path) -> None:
        """Write the tables into the folder of the volume of fragments, as ``lookup.npz``, whole or not at all.

        The file has the arrays ``fragments``, ``thresholds``, and ``objects``, (threshold, fragment).

        Raises:
            UnwritableDataError: it cannot be written.
        """
        arrays = {
            "fragments": self.fragments,
            "thresholds": np.array(self.thresholds, np.float64),
            "objects": np.stack(self.objects),
        }
        with block_file(volume / _FILE) as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, volume: Path) -> Self:
        """Read the tables that :meth:`write` wrote.

        Raises:
            FileNotFoundError: there are none.
            VolumeFormatError: they cannot be read.
        """
        path = volume / _FILE
        if not path.exists():
            raise FileNotFoundError(f"{volume} has no look-up tables {_FILE}")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                thresholds = tuple(float(threshold) for threshold in arrays["thresholds"])
                return cls(arrays["fragments"], thresholds, tuple(arrays["objects"]))
        except (ValueError, KeyError, EOFError) as error:
            raise VolumeFormatError(f"{path} cannot be read: {error}; segment again") from error
