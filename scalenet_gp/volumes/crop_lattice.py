"""Reading an image on any lattice: that of a crop which somebody else chose, finer or coarser, shifted by any share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import final

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ArgumentError, LatticeError
from scalenet_gp.geometry import Length, exact_size, format_size
from scalenet_gp.volumes.metadata import Level
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from scalenet_gp.volumes.resampling import Coverage, weighted_mean

__all__ = ["CropLattice", "check_covered", "read_on_lattice"]


@final
@dataclass(frozen=True, slots=True)
class CropLattice:
    """The voxels of a crop, which lie anywhere.

    Args:
        voxel_size: nm, per spatial axis.
        corner: the corner of the first voxel, nm.
        shape: voxels.

    Raises:
        ArgumentError: another number of axes, or a length that is not positive.

    Example:
        >>> lattice = CropLattice.of_centres((1.74, 2, 2), ("23837.13", 7599, 35999), (600, 600, 600))
        >>> lattice.corner[0], lattice.translation[0]
        (Fraction(1191813, 50), Fraction(2383713, 100))
    """

    voxel_size: tuple[Fraction, ...]
    corner: tuple[Fraction, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "voxel_size", exact_size(self.voxel_size))
        object.__setattr__(self, "corner", exact_size(self.corner))
        axes = {len(self.voxel_size), len(self.corner), len(self.shape)}
        if len(axes) > 1 or min(self.voxel_size) <= 0 or min(self.shape) <= 0:
            raise ArgumentError(
                f"voxel size {format_size(self.voxel_size)} nm, corner {format_size(self.corner)} nm and shape "
                f"{self.shape} have to have the same axes; voxel size and shape have to be positive"
            )

    @classmethod
    def of_centres(
        cls, voxel_size: Iterable[Length], translation: Iterable[Length], shape: Iterable[int]
    ) -> CropLattice:
        """Return the lattice whose first voxel has its *centre* at ``translation``, as in OME-Zarr."""
        size = exact_size(voxel_size)
        corner = (t - v / 2 for t, v in zip(exact_size(translation), size, strict=True))
        return cls(size, tuple(corner), tuple(shape))

    @property
    def translation(self) -> tuple[Fraction, ...]:
        """The centre of the first voxel, nm."""
        return tuple(c + v / 2 for c, v in zip(self.corner, self.voxel_size, strict=True))

    @property
    def end(self) -> tuple[Fraction, ...]:
        """The far corner of the last voxel, nm."""
        return tuple(c + n * v for c, n, v in zip(self.corner, self.shape, self.voxel_size, strict=True))

    def planes(self, begin: int, end: int) -> CropLattice:
        """Return the part of the lattice from one plane to another."""
        corner = (self.corner[0] + begin * self.voxel_size[0], *self.corner[1:])
        return replace(self, corner=corner, shape=(end - begin, *self.shape[1:]))


def read_on_lattice(image: MultiscaleImage, lattice: CropLattice, *, labels: bool) -> np.ndarray:
    """Read an image on a lattice, (channel, z, y, x), in its dtype.

    The voxels come from the coarsest level that is as fine on every axis, or from the finest. Labels are those of the
    voxels that hold the lattice's voxel centres. Quantities are interpolated linearly between voxel centres along axes
    that become finer, and averaged over the boxes of voxels along the others. At the faces of the image its border
    voxels go on for one voxel.

    Args:
        image: the image.
        lattice: the lattice.
        labels: the values are names, not quantities.

    Raises:
        LatticeError: the lattice reaches further out of the image, or has other axes.
        UnreadableDataError: a chunk cannot be decoded.

    Example:
        >>> image = MultiscaleImage.from_arrays([np.array([[[0.0, 8.0]]])], [(8, 8, 8)])
        >>> lattice = CropLattice((8, 8, 4), (0, 0, 0), (1, 1, 4))
        >>> read_on_lattice(image, lattice, labels=False).tolist()
        [[[[0.0, 2.0, 6.0, 8.0]]]]
        >>> read_on_lattice(image, lattice, labels=True).tolist()
        [[[[0.0, 0.0, 8.0, 8.0]]]]
    """
    check_covered(image, lattice)
    level = _level(image, lattice)
    if labels:
        chosen = [_containing(lattice, level, axis) for axis in range(image.dims)]
        spans = [(int(index.min()), int(index.max()) + 1) for index in chosen]
        data = _read(image, level, spans)
        for axis, (index, (first, _)) in enumerate(zip(chosen, spans, strict=True), start=1):
            data = data.take(index - first, axis)
        return data
    covered = [_coverage(lattice, level, axis) for axis in range(image.dims)]
    return weighted_mean(_read(image, level, [along.span for along in covered]), covered)


def check_covered(image: MultiscaleImage, lattice: CropLattice) -> None:
    """Check that an image covers the voxel centres of a lattice, up to one voxel of its own.

    Raises:
        LatticeError: it does not, or it has other axes.
    """
    level = image.levels[0]
    if len(lattice.shape) != image.dims:
        raise LatticeError(f"{image.path} has {image.dims} spatial axes, the crop {len(lattice.shape)}")
    last = (t + (n - 1) * v for t, n, v in zip(lattice.translation, lattice.shape, lattice.voxel_size, strict=True))
    inside = (
        begin - size <= low and high <= end + size
        for begin, end, size, low, high in zip(
            level.begin, level.end, level.voxel_size, lattice.translation, last, strict=True
        )
    )
    if not all(inside):
        raise LatticeError(
            f"{image.path} spans {format_size(level.begin)} to {format_size(level.end)} nm, and the crop "
            f"{format_size(lattice.corner)} to {format_size(lattice.end)} nm: it is not covered"
        )


def _level(image: MultiscaleImage, lattice: CropLattice) -> Level:
    """Return the coarsest level that is as fine as the lattice on every axis, or the finest."""
    fine = [
        level
        for level in image.levels
        if all(own <= asked for own, asked in zip(level.voxel_size, lattice.voxel_size, strict=True))
    ]
    return fine[-1] if fine else image.levels[0]


def _read(image: MultiscaleImage, level: Level, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    world = image.world(level.voxel_size)
    size = world.size(level.voxel_size)
    begin = world.position(level.begin) + size * Coordinate(first for first, _ in spans)
    return image.read(Roi(begin, size * Coordinate(last - first for first, last in spans)), size, world)


def _positions(lattice: CropLattice, level: Level, axis: int) -> tuple[np.ndarray, int]:
    """Return the places of voxel centres, counted from the level's corner in parts of a voxel; and the parts of one."""
    size = level.voxel_size[axis]
    first, half = (lattice.corner[axis] - level.begin[axis]) / size, lattice.voxel_size[axis] / size / 2
    parts = math.lcm(first.denominator, half.denominator)
    return int(first * parts) + int(half * parts) * (2 * np.arange(lattice.shape[axis]) + 1), parts


def _containing(lattice: CropLattice, level: Level, axis: int) -> np.ndarray:
    """Return the voxel of the level that holds each voxel centre."""
    places, parts = _positions(lattice, level, axis)
    return np.clip(places // parts, 0, level.shape[axis] - 1)


def _coverage(lattice: CropLattice, level: Level, axis: int) -> Coverage:
    """Return the voxels of the level that make each voxel of the lattice, and their weights."""
    size = level.voxel_size[axis]
    factor, first = lattice.voxel_size[axis] / size, (level.begin[axis] - lattice.corner[axis]) / size
    if factor >= 1:
        along = Coverage.of(0, lattice.shape[axis], factor, first)
    else:
        places, parts = _positions(lattice, level, axis)
        lower, share = np.divmod(2 * places - parts, 2 * parts)  # from the centre of one voxel to that of the next
        weight = np.stack([2 * parts - share, share], axis=1).astype(np.float64)
        along = Coverage(np.stack([lower, lower + 1], axis=1), weight, 2 * parts)
    return replace(along, index=np.clip(along.index, 0, level.shape[axis] - 1))
