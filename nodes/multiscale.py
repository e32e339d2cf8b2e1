"""A multiscale volume, read in world coordinates at any voxel size that its levels can give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.nodes.ome_zarr import Level, Translation, read_multiscale
from scalenet_gp.nodes.reduction import block_majority, block_mean
from scalenet_gp.nodes.zarr_storage import StrPath, open_array, read_box
from scalenet_gp.world import Length, World, common_unit, exact, exact_size, format_size

__all__ = ["Multiscale", "Padding"]

Padding = Literal["constant", "reflect"]
"""What lies outside a volume: one value, or the volume mirrored at its faces.

The faces are where the levels meet (numpy.pad calls it "symmetric"). Mirrored at the centres of the border voxels, as
numpy's "reflect" is, every level would be mirrored elsewhere: 8 and 128 nm voxels would part by 120 nm. A voxel size
that does not divide the volume is mirrored at the last whole voxel, up to one such voxel inside the face.
"""

_Reduction = Callable[[np.ndarray, Sequence[int]], np.ndarray]


@dataclass(frozen=True, slots=True)
class _Service:
    """How a level serves a voxel size.

    Args:
        level: its index.
        factor: its voxels per served voxel.
        first: its first voxel, counted in its own voxels from the world's origin.
    """

    level: int
    factor: tuple[int, ...]
    first: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Multiscale:
    """An OME-Zarr pyramid, opened for reading: see :meth:`open`.

    Wherever a voxel size and a world are asked for, the voxel size is in world units, and the voxels are those of the
    lattice of its multiples from the world's origin: the same world voxel has the same value whatever ROI it is read
    with.

    Args:
        path: of the multiscale group.
        levels: from fine to coarse.
        channels: how many; 1 if the file has no channel axis.
        dtype: of the voxels.
    """

    path: Path
    levels: tuple[Level, ...]
    channels: int
    dtype: np.dtype[Any]
    _arrays: tuple[Any, ...]

    @classmethod
    def open(cls, path: StrPath, translation: Translation = "centre") -> Multiscale:
        """Open the multiscale group at ``path``.

        Args:
            path: of the group, for example ``vnc.zarr/recon-1/em/tem-uint8``.
            translation: what the file's translations name: voxel centres, as OME-Zarr says, or, for writers that
                stored something else or nothing, voxel corners.

        Raises:
            FileNotFoundError: there is nothing at ``path``, or a level that its metadata names is missing.
            ValueError: no multiscale group, malformed metadata, or levels whose corners disagree.
        """
        metadata = read_multiscale(path, translation)
        arrays = tuple(open_array(Path(path) / level.path) for level in metadata.levels)
        return cls(Path(path), metadata.levels, metadata.channels or 1, metadata.dtype, arrays)

    @property
    def dims(self) -> int:
        """How many spatial axes: 3 (z, y, x) or 2 (y, x)."""
        return len(self.levels[0].shape)

    def world(self, *voxel_sizes: Iterable[Length], unit: Length | None = None) -> World:
        """The world in which this volume's corner lies on the lattice of every one of ``voxel_sizes``.

        Its origin is the corner up to whole steps of the coarsest lattice, and of these choices the nearest to zero.
        So the origin of a volume whose first voxel centre is at zero is minus half a voxel, and world coordinates stay
        near the physical ones.

        Args:
            voxel_sizes: nm; by default those of the levels.
            unit: nm per world unit; by default the largest that makes every voxel size whole.

        Raises:
            ValueError: a voxel size of the wrong number of axes, or not positive.
        """
        sizes = [exact_size(size) for size in voxel_sizes] or [level.voxel_size for level in self.levels]
        for size in sizes:
            if len(size) != self.dims or min(size) <= 0:
                raise ValueError(
                    f"{self.path}: voxel size {format_size(size)} nm has to be {self.dims} positive lengths"
                )
        steps = [_common_multiple(lengths) for lengths in zip(*sizes, strict=True)]
        # the representative in [-step / 2, step / 2)
        origin = [(c + step / 2) % step - step / 2 for c, step in zip(self.levels[0].begin, steps, strict=True)]
        return World(common_unit(sizes) if unit is None else exact(unit), tuple(origin))

    def roi(self, voxel_size: Iterable[int], world: World) -> Roi:
        """The world ROI of the whole voxels that there are at ``voxel_size``; empty if there is none.

        Raises:
            ValueError: no level can give this voxel size.
        """
        size = self._size(voxel_size)
        available = self._available(self._service(size, world))
        if available is None:
            return Roi((None,) * self.dims, (0,) * self.dims)
        begin, end = (Coordinate(corner) * size for corner in available)
        return Roi(begin, end - begin)

    def read(
        self,
        roi: Roi,
        voxel_size: Iterable[int],
        world: World,
        labels: bool = False,
        padding: Padding | None = None,
        fill_value: float = 0,
    ) -> np.ndarray:
        """The voxels of ``roi``, (channel, z, y, x), in the dtype of the volume.

        They come from the level of this voxel size; where there is none, from the coarsest level that divides it, by
        the mean of whole blocks of voxels (integers rounded, halves to even) or, for labels, by their majority (the
        smallest label of several).

        Args:
            roi: world units, on the lattice of ``voxel_size``.
            voxel_size: world units.
            labels: the values are names, not quantities.
            padding: what lies outside the volume. None: nothing may be asked for there. "constant": ``fill_value``.
                "reflect": mirrored at its faces, at any distance; a padded voxel depends on its position only.
            fill_value: for constant padding.

        Raises:
            ValueError: no level can give this voxel size; ``roi`` is off its lattice, or, without padding, reaches
                out of the volume; ``fill_value`` does not fit the dtype.
            UnreadableDataError: a chunk cannot be decoded.
        """
        return self._read(roi, voxel_size, world, block_majority if labels else block_mean, padding, fill_value)

    def members(self, roi: Roi, voxel_size: Iterable[int], world: World) -> np.ndarray:
        """Where there is any label: uint8 (channel, z, y, x), 1 where the label is above 0.

        Where a level has to be made, it is membership that counts by majority, not the single labels. Raises as
        :meth:`read` without padding.
        """

        def reduce(data: np.ndarray, factor: Sequence[int]) -> np.ndarray:
            # of zeros and ones the mean, halves rounded to even, is the majority, ties to zero
            return block_mean((data > 0).astype(np.uint8), factor)

        return self._read(roi, voxel_size, world, reduce, None, 0)

    def valid(self, roi: Roi, voxel_size: Iterable[int], world: World) -> np.ndarray:
        """Whether there is data: uint8 (1, z, y, x), 1 inside the volume and 0 outside.

        Raises:
            ValueError: as :meth:`read` with padding.
        """
        size = self._size(voxel_size)
        available = self._available(self._service(size, world))
        begin, end = self._voxels(roi, size)
        mask = np.zeros((1, *np.subtract(end, begin)), dtype=np.uint8)
        if available is not None:
            low, high = available
            inside = tuple(slice(max(f - b, 0), max(t - b, 0)) for b, f, t in zip(begin, low, high, strict=True))
            mask[(slice(None), *inside)] = 1
        return mask

    def check_padding(self, padding: Padding | None, fill_value: float) -> None:
        """Whether this volume can be padded so.

        Raises:
            ValueError: no such padding, or a fill value that does not fit the dtype.
        """
        if padding not in (None, "constant", "reflect"):
            raise ValueError(f"padding={padding!r} has to be None, 'constant' or 'reflect'")
        if self.dtype.kind == "f":
            return
        low, high = (0, 1) if self.dtype.kind == "b" else (np.iinfo(self.dtype).min, np.iinfo(self.dtype).max)
        if not (low <= fill_value <= high and fill_value == int(fill_value)):
            raise ValueError(f"{self.path}: the fill value {fill_value} does not fit {self.dtype}")

    def _read(
        self,
        roi: Roi,
        voxel_size: Iterable[int],
        world: World,
        reduce: _Reduction,
        padding: Padding | None,
        fill_value: float,
    ) -> np.ndarray:
        self.check_padding(padding, fill_value)
        size = self._size(voxel_size)
        service = self._service(size, world)
        begin, end = self._voxels(roi, size)
        available = self._available(service)
        if available is None:
            raise ValueError(f"{self.path} has no whole voxel of {self._nm(size, world)}")
        low, high = available
        if padding == "reflect":
            indices = [
                _reflected(np.arange(b, e), *border) for b, e, *border in zip(begin, end, low, high, strict=True)
            ]
            box = [(int(index.min()), int(index.max()) + 1) for index in indices]
            data = self._blocks(service, box, reduce)
            local = (index - first for index, (first, _) in zip(indices, box, strict=True))
            return data[np.ix_(np.arange(self.channels), *local)]
        inside = [
            (min(max(b, first), last), min(max(e, first), last))
            for b, e, first, last in zip(begin, end, low, high, strict=True)
        ]
        if inside == list(zip(begin, end, strict=True)):
            return self._blocks(service, inside, reduce)
        if padding is None:
            raise ValueError(
                f"{self.path}: ROI {roi} reaches out of {self.roi(size, world)}, which is all there is at "
                f"{self._nm(size, world)}; padding='constant' or 'reflect' would fill it"
            )
        padded = np.full((self.channels, *np.subtract(end, begin)), fill_value, dtype=self.dtype)
        if all(b < e for b, e in inside):
            target = (slice(f - b, t - b) for (f, t), b in zip(inside, begin, strict=True))
            padded[(slice(None), *target)] = self._blocks(service, inside, reduce)
        return padded

    def _blocks(self, service: _Service, box: Iterable[tuple[int, int]], reduce: _Reduction) -> np.ndarray:
        """The served voxels in ``box``, which lies inside the volume: (channel, z, y, x)."""
        array, path = self._arrays[service.level], self.path / self.levels[service.level].path
        slices = tuple(
            slice(b * factor - first, e * factor - first)
            for (b, e), factor, first in zip(box, service.factor, service.first, strict=True)
        )
        if array.ndim > self.dims:
            data = read_box(array, path, (slice(0, self.channels), *slices))
        else:
            data = read_box(array, path, slices)[np.newaxis]
        return reduce(data, service.factor)

    def _available(self, service: _Service) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Begin and end of the whole served voxels, counted from the world's origin."""
        shape = self.levels[service.level].shape
        begin = tuple(-(-first // f) for first, f in zip(service.first, service.factor, strict=True))
        end = tuple((first + n) // f for first, n, f in zip(service.first, shape, service.factor, strict=True))
        return (begin, end) if all(b < e for b, e in zip(begin, end, strict=True)) else None

    def _service(self, size: Coordinate, world: World) -> _Service:
        """The coarsest level that has or divides the voxel size, and lies on its own lattice of the world."""
        asked = world.size_in_nm(size)
        origin = world.position_in_nm(Coordinate((0,) * self.dims))
        found: list[_Service] = []
        reasons: list[str] = []
        remedy = ""
        for index, level in enumerate(self.levels):
            factor = [a / v for a, v in zip(asked, level.voxel_size, strict=True)]
            first = [(b - o) / v for b, o, v in zip(level.begin, origin, level.voxel_size, strict=True)]
            if any(f.denominator != 1 for f in factor):
                reasons.append(f"{level.path}: {format_size(level.voxel_size)} nm does not divide it")
            elif any(f.denominator != 1 for f in first):
                reasons.append(
                    f"{level.path}: its corner {format_size(level.begin)} nm is off the lattice of its "
                    f"{format_size(level.voxel_size)} nm from the world's origin {format_size(origin)} nm"
                )
                fitting = self.world(asked, unit=world.unit)
                remedy = f"; World(unit={str(fitting.unit)!r}, origin={tuple(map(str, fitting.origin))}) would fit"
            else:
                found.append(_Service(index, tuple(map(int, factor)), tuple(map(int, first))))
        if not found:
            reason = "; ".join(reasons)
            raise ValueError(f"{self.path}: no level can give voxels of {self._nm(size, world)}: {reason}{remedy}")
        return min(found, key=lambda service: math.prod(service.factor))

    def _size(self, voxel_size: Iterable[int]) -> Coordinate:
        lengths = exact_size(voxel_size)
        if len(lengths) != self.dims or any(length <= 0 or length.denominator != 1 for length in lengths):
            raise ValueError(
                f"{self.path}: voxel size ({', '.join(map(str, lengths))}) has to be {self.dims} positive whole "
                "numbers of world units; World.size converts from nm"
            )
        return Coordinate(map(int, lengths))

    def _voxels(self, roi: Roi, size: Coordinate) -> tuple[Coordinate, Coordinate]:
        """Begin and end of ``roi`` in voxels from the world's origin."""
        if roi.dims != self.dims or roi.unbounded or roi.empty:
            raise ValueError(f"{self.path}: ROI {roi} has to be bounded, not empty, and of {self.dims} axes")
        if not (roi.begin.is_multiple_of(size) and roi.shape.is_multiple_of(size)):
            nearest = roi.snap_to_grid(size, mode="closest")
            nearest = roi.snap_to_grid(size, mode="grow") if nearest.empty else nearest
            raise ValueError(
                f"{self.path}: ROI {roi} is off the lattice of voxels of {tuple(size)} world units; "
                f"the nearest on it is {nearest}"
            )
        return roi.begin // size, roi.end // size

    def _nm(self, size: Coordinate, world: World) -> str:
        return f"{format_size(world.size_in_nm(size))} nm"


def _common_multiple(lengths: Sequence[Fraction]) -> Fraction:
    """The smallest length that is a whole multiple of each one."""
    denominator = math.lcm(*(length.denominator for length in lengths))
    return Fraction(math.lcm(*(int(length * denominator) for length in lengths)), denominator)


def _reflected(index: np.ndarray, begin: int, end: int) -> np.ndarray:
    """Fold voxel indices into [begin, end), mirrored at the faces."""
    size = end - begin
    offset = (index - begin) % (2 * size)
    folded: np.ndarray = begin + np.minimum(offset, 2 * size - 1 - offset)
    return folded
