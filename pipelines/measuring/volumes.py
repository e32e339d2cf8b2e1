"""The volumes of a measurement, read at the voxels of the ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import format_size
from scalenet_gp.pipelines.measuring.job import MeasuredClass, ReadVolume
from scalenet_gp.volumes import MultiscaleImage

__all__ = ["MeasuredVolumes"]


@final
class MeasuredVolumes:
    """Reads the ids of a class and what lies at the same place. Any number of threads may read at once.

    Boxes count voxels of the ids from their first one. Other volumes are read at the voxel size of the ids, from the
    level that gives it; where none does, they are resampled.

    Args:
        part: the class.

    Raises:
        FileNotFoundError: a volume is gone.
        ConfigError: a volume does not cover the ids, or no level of it is as fine.
    """

    def __init__(self, part: MeasuredClass) -> None:
        self._ids = MultiscaleImage.open(part.ids.path)
        self._world = self._ids.world(part.voxel_size)
        self._size = self._world.size(part.voxel_size)
        self._corner = self._ids.roi(self._size, self._world, labels=True).begin
        self._values = [self._open(name, of, labels=False) for name, of in part.values.items()]
        self._parents = None if part.parents is None else self._open("parents", part.parents, labels=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """The voxels of the ids."""
        return self._ids.levels[0].shape

    def ids(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray:
        """Return the ids in a box."""
        return self._ids.read(self._roi(begin, end), self._size, self._world, labels=True)[0]

    def values(self, begin: Sequence[int], end: Sequence[int]) -> list[np.ndarray]:
        """Return the stored values of each volume in a box."""
        return [image.read(self._roi(begin, end), self._size, self._world)[0] for image in self._values]

    def parents(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray | None:
        """Return the parents' ids in a box; None without parents."""
        if self._parents is None:
            return None
        return self._parents.read(self._roi(begin, end), self._size, self._world, labels=True)[0]

    def _roi(self, begin: Sequence[int], end: Sequence[int]) -> Roi:
        first, past = (Coordinate(map(int, edge)) * self._size for edge in (begin, end))
        return Roi(self._corner + first, past - first)

    def _open(self, name: str, of: ReadVolume, labels: bool) -> MultiscaleImage:
        select = None if of.channel is None else {"c": of.channel}
        image = MultiscaleImage.open(of.source.path, select=select, alignment="resample")
        try:
            there = image.roi(self._size, self._world, labels=labels)
        except ValueError as error:
            raise ConfigError(f"--{name} {error}") from error
        if not there.contains(self._ids.roi(self._size, self._world, labels=True)):
            begin, end = (
                format_size(self._world.position_in_nm(edge)) if not there.empty else "nothing"
                for edge in (there.begin, there.end)
            )
            level = self._ids.levels[0]
            past = (b + n * v for b, n, v in zip(level.begin, level.shape, level.voxel_size, strict=True))
            raise ConfigError(
                f"--{name} {image.path} covers {begin} to {end} nm, not all of {self._ids.path}, from "
                f"{format_size(level.begin)} to {format_size(past)} nm: give one that does"
            )
        return image
