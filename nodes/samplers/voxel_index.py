"""Lists of the voxels of a mask or of a class, from which one can be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import floor, prod
from typing import Any, final

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError, DataError, LatticeError
from scalenet_gp.geometry import World, format_size
from scalenet_gp.volumes import ClassVolume, ClassVoxels, MultiscaleImage, class_majority

__all__ = ["LabelArray", "Labels", "VoxelGrid", "VoxelIndex"]

_MOST_VOXELS = 2**27
"""Voxels of the searched box, unless a voxel size is given: at 4 bytes each, 512 MiB at most."""

_BLOCK = 256
"""Stored voxels per axis that are read at once: 16 million in 3D; a quarter where they are resampled."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class LabelArray:
    """A mask, or a volume of labels, in memory.

    Args:
        data: (z, y, x) or (y, x); values above 0 count.
        voxel_size: world units.
        begin: the corner of the first voxel, world units.

    Raises:
        ArgumentError: ``voxel_size`` or ``begin`` do not fit the axes of ``data``.

    Example:
        >>> import numpy as np
        >>> LabelArray(np.ones((2, 3)), voxel_size=(8, 8), begin=(16, 0)).roi.end
        (32, 24)
    """

    data: NDArray[Any]
    voxel_size: Coordinate
    begin: Coordinate

    def __post_init__(self) -> None:
        object.__setattr__(self, "voxel_size", Coordinate(self.voxel_size))
        object.__setattr__(self, "begin", Coordinate(self.begin))
        axes = self.data.ndim
        if not len(self.voxel_size) == len(self.begin) == axes or min(self.voxel_size) <= 0:
            raise ArgumentError(
                f"labels of shape {self.data.shape} with voxel size {tuple(self.voxel_size)} and begin "
                f"{tuple(self.begin)}: both need {axes} entries, and the voxel size has to be positive"
            )

    @property
    def roi(self) -> Roi:
        """The box that the array covers."""
        return Roi(self.begin, self.voxel_size * Coordinate(self.data.shape))

    def __str__(self) -> str:
        return f"an array of shape {self.data.shape}"


Labels = ClassVolume | MultiscaleImage | LabelArray
"""A source of voxels: a class, or the values above 0 of a pyramid of one channel or of an array."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class VoxelGrid:
    """The part of a label volume that is searched, and at which voxel size: see :meth:`of`.

    Args:
        labels: a class in a pyramid, or an array in memory.
        world: that a pyramid is read in.
        voxel_size: world units.
        box: whole voxels, world units.
    """

    labels: ClassVolume | LabelArray
    world: World
    voxel_size: Coordinate
    box: Roi

    @classmethod
    def of(
        cls, labels: Labels, world: World | None, voxel_size: Iterable[int] | None = None, within: Roi | None = None
    ) -> VoxelGrid:
        """Choose the box and the voxel size to search, without reading a voxel.

        Args:
            labels: the source of voxels.
            world: the world that a pyramid is read in; by default the physical one, in nm.
            voxel_size: for a pyramid; by default that of its finest level with at most 2**27 voxels in the box.
            within: take only the voxels of the volume inside this ROI.

        Raises:
            ArgumentError: no label volume, or one with channels; an unbounded ``within``.
            LatticeError: a voxel size that the volume cannot give, or no level fits the world and is small enough.
            DataError: no whole voxel within ``within``.
        """
        if within is not None and (within.empty or within.unbounded):
            raise ArgumentError(f"within={within} has to be bounded and not empty")
        world = World() if world is None else world
        size = None if voxel_size is None else Coordinate(voxel_size)
        if isinstance(labels, LabelArray):
            if size not in (None, labels.voxel_size):
                raise ArgumentError(f"{labels} has voxels of {tuple(labels.voxel_size)}; it cannot give {size}")
            return cls(labels, world, labels.voxel_size, _box(labels, labels.roi, labels.voxel_size, within))
        labels = ClassVolume(labels) if isinstance(labels, MultiscaleImage) else labels
        volume = _pyramid(labels)
        if size is None:
            return cls(labels, world, *_finest(volume, world, within))
        return cls(labels, world, size, _box(volume, volume.roi(size, world, labels=True), size, within))

    def index(self) -> VoxelIndex:
        """Read the box, block by block, and list the voxels."""
        shape = tuple(int(n) for n in self.box.shape // self.voxel_size)
        dtype = _index_type(shape)
        strides = [dtype(prod(shape[axis + 1 :])) for axis in range(len(shape))]
        found = [np.empty(0, dtype)]
        steps = self._block()
        for first in product(*(range(0, n, step) for n, step in zip(shape, steps, strict=True))):
            counts = Coordinate(min(step, n - f) for n, f, step in zip(shape, first, steps, strict=True))
            block = Roi(self.box.begin + Coordinate(first) * self.voxel_size, counts * self.voxel_size)
            along = (np.arange(f, f + n, dtype=dtype) * s for f, n, s in zip(first, counts, strides, strict=True))
            found.append(reduce(np.add.outer, along)[self._present(block).astype(bool, copy=False)])
        return VoxelIndex(self.box, self.voxel_size, shape, np.concatenate(found))

    def _block(self) -> tuple[int, ...]:
        """Return the number of voxels to read at once, per axis."""
        if isinstance(self.labels, LabelArray):
            return (_BLOCK,) * self.box.dims
        one = Roi(self.box.begin, self.voxel_size)
        _, grid = _pyramid(self.labels).start_stored(one, self.voxel_size, self.world)
        edge = _BLOCK // 4 if grid.factor is None else _BLOCK
        return tuple(min(edge, max(1, floor(edge * length))) for length in grid.length)

    def _present(self, block: Roi) -> NDArray[Any]:
        if isinstance(self.labels, LabelArray):
            present: NDArray[Any] = self.labels.data[((block - self.labels.begin) // self.voxel_size).to_slices()] > 0
            return present
        stored, grid = _pyramid(self.labels).start_stored(block, self.voxel_size, self.world)
        begin, end = block.begin // self.voxel_size, block.end // self.voxel_size
        voxels = ClassVoxels(tuple(zip(begin, end, strict=True)), *self.labels.read(stored()[0]), grid)
        return class_majority([voxels])[1]

    def __str__(self) -> str:
        volume = self.labels if isinstance(self.labels, LabelArray) else _pyramid(self.labels)
        return f"{_name(volume)} at voxels of {tuple(self.voxel_size)} world units within {self.box}"


@final
@dataclass(frozen=True, slots=True, eq=False)
class VoxelIndex:
    """A list of voxels: 4 bytes each (8 where the box has 2**32 or more).

    Args:
        box: that they lie in.
        voxel_size: world units.
        shape: of the box, in voxels.
        flat: the voxels, counted through the box in C order.
    """

    box: Roi
    voxel_size: Coordinate
    shape: tuple[int, ...]
    flat: NDArray[Any]

    def __len__(self) -> int:
        return len(self.flat)

    @classmethod
    def union(cls, indices: Sequence[VoxelIndex]) -> VoxelIndex:
        """Return the voxels of any of several lists of one voxel size, each of them once."""
        if len(indices) == 1:
            return indices[0]
        size = indices[0].voxel_size
        box = reduce(Roi.union, (index.box for index in indices))
        shape = tuple(int(n) for n in box.shape // size)
        found = []
        for index in indices:
            if index.box == box:  # mostly; it spares several times the memory of the list
                found.append(index.flat)
                continue
            first = (index.box.begin - box.begin) // size
            along = np.unravel_index(index.flat.astype(np.int64), index.shape)
            moved = tuple(voxels + int(f) for voxels, f in zip(along, first, strict=True))
            found.append(np.ravel_multi_index(moved, shape).astype(_index_type(shape)))
        return cls(box, size, shape, np.unique(np.concatenate(found)))

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw ``count`` voxels, each equally likely, and return their world corners: (count, axis)."""
        drawn = self.flat[generator.integers(len(self), size=count)]
        voxels = np.stack(np.unravel_index(drawn.astype(np.int64), self.shape), axis=1)
        corners: NDArray[np.int64] = voxels * np.array(self.voxel_size) + np.array(self.box.begin)
        return corners


def _index_type(shape: Sequence[int]) -> type[np.uint32] | type[np.int64]:
    """Return the smallest type that counts the voxels of a box: an index can be large."""
    return np.uint32 if prod(shape) < 2**32 else np.int64


def _pyramid(labels: ClassVolume) -> MultiscaleImage:
    if labels.volume is None:
        raise ArgumentError("a class without a label volume has no voxels to look for")
    return labels.volume


def _finest(volume: MultiscaleImage, world: World, within: Roi | None) -> tuple[Coordinate, Roi]:
    """Return voxel size and box of the finest level whose box is small enough."""
    reasons, outside = [], []
    for level in volume.levels:
        try:
            size = world.size(level.voxel_size, "voxel size")
            box = _box(volume, volume.roi(size, world, labels=True), size, within)
        except ValueError as error:
            reasons.append(str(error))
            outside += [error] if isinstance(error, DataError) else []
            continue
        voxels = prod(box.shape // size)
        if voxels <= _MOST_VOXELS:
            return size, box
        reasons.append(f"{format_size(level.voxel_size)} nm: {voxels} voxels")
    if len(outside) == len(volume.levels):
        raise outside[0]
    raise LatticeError(
        f"{volume.path}: no level can be searched with at most {_MOST_VOXELS} voxels ({'; '.join(reasons)}); "
        "restrict the search with within, or name a voxel_size"
    )


def _box(volume: MultiscaleImage | LabelArray, roi: Roi, voxel_size: Coordinate, within: Roi | None) -> Roi:
    """Return the box of the whole voxels of ``roi`` that lie inside ``within``."""
    box = roi
    if within is not None and not roi.empty:
        if within.dims != roi.dims:
            raise ArgumentError(f"within={within} has {within.dims} axes, {_name(volume)} has {roi.dims}")
        box = roi.intersect((within - roi.begin).snap_to_grid(voxel_size, mode="shrink") + roi.begin)
    if box.empty:
        where = "" if within is None else f" within {within}"
        raise DataError(f"{_name(volume)} has no whole voxel of {tuple(voxel_size)} world units{where}")
    return box


def _name(volume: MultiscaleImage | LabelArray) -> str:
    return str(volume) if isinstance(volume, LabelArray) else str(volume.path)
