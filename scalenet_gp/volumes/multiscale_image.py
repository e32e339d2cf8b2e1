"""A multiscale image, read in world coordinates at any voxel size that its levels can give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ArgumentError, LatticeError
from scalenet_gp.geometry import Length, World, exact, exact_size, format_size
from scalenet_gp.volumes.formats import read_volume
from scalenet_gp.volumes.label_resampling import StoredGrid, volume_mode
from scalenet_gp.volumes.level_match import Alignment, LevelMatch, fitting_world, match_level, reflect_indices
from scalenet_gp.volumes.location import StrPath
from scalenet_gp.volumes.memory_array import describe_arrays
from scalenet_gp.volumes.metadata import Level, ReadOptions, Translation, VolumeMetadata, VoxelArray
from scalenet_gp.volumes.reduction import block_majority, block_mean
from scalenet_gp.volumes.resampling import weighted_mean
from scalenet_gp.volumes.stored_array import ChunkCache

__all__ = ["MultiscaleImage", "Padding"]

Padding = Literal["constant", "reflect"]
"""The values outside a volume: one value, or the volume mirrored at its faces.

The faces are where the levels meet (numpy.pad calls it "symmetric"). Mirrored at the centres of the border voxels, as
numpy's "reflect" is, every level would be mirrored elsewhere: 8 and 128 nm voxels would part by 120 nm. A voxel size
that does not divide the volume is mirrored at the last whole voxel, up to one such voxel inside the face. What is
resampled is mirrored at the very faces of the volume, wherever they lie in the lattice that is asked for; labels never.
"""


@final
@dataclass(frozen=True, slots=True, eq=False)
class MultiscaleImage:
    """A pyramid of arrays, opened for reading: see :meth:`open` and :meth:`from_arrays`.

    Voxel sizes are in units of the world that goes with them. Voxels lie on the lattice of multiples of the voxel size
    from the world's origin: the same world voxel has the same value in every ROI.

    Args:
        path: the path of the volume, its URL, or the name of a volume in memory.
        levels: the levels, from fine to coarse.
        channels: the number of channels; 1 if the file has no channel axis.
        dtype: the dtype of the voxels.
        alignment: the treatment of a lattice that does not fit, see :data:`Alignment`.

    Example:
        >>> import numpy as np
        >>> from funlib.geometry import Roi
        >>> image = MultiscaleImage.from_arrays([np.arange(64).reshape(4, 4, 4)], [(8, 8, 8)])
        >>> image.read(Roi((0, 0, 0), (16, 16, 16)), (16, 16, 16), image.world()).tolist()
        [[[[10]]]]
    """

    path: str
    levels: tuple[Level, ...]
    channels: int
    dtype: np.dtype[Any]
    _arrays: tuple[VoxelArray, ...]
    alignment: Alignment = "exact"

    _matches: dict[tuple[Coordinate, World, bool], LevelMatch] = field(default_factory=dict, init=False, repr=False)
    """The matches that were found already: to find one takes longer than to read a small box."""

    def __post_init__(self) -> None:
        if self.alignment not in ("exact", "resample"):
            raise ArgumentError(f"{self.path}: alignment={self.alignment!r} has to be 'exact' or 'resample'")

    @classmethod
    def open(
        cls,
        path: StrPath,
        translation: Translation | None = None,
        *,
        select: Mapping[str, int | str] | None = None,
        unit: str | None = None,
        voxel_size: Iterable[Length] | None = None,
        alignment: Alignment = "exact",
        cache: ChunkCache | None = None,
    ) -> MultiscaleImage:
        """Open the volume at ``path``: a group of levels, or a single array.

        The format is found out: OME-Zarr 0.4, 0.5 and 0.6; N5 as COSEM and the N5 viewers write it; zarr 2, zarr 3 or
        N5 arrays with the attributes of gunpowder or funlib.persistence, alone or as s0, s1, ... in a group; and
        neuroglancer's precomputed volumes. The array of one level is a volume, too: its group places it. Only metadata
        are read; see :func:`scalenet_gp.volumes.bulk_reads_begun` about worker processes.

        Args:
            path: of the volume, for example ``vnc.zarr/recon-1/em/tem-uint8``, or its URL (``s3://``, ``gs://``,
                ``http://``, ``https://``, ``file://``).
            translation: the points that the file's positions name. By default those of the format: voxel centres in
                OME-Zarr and COSEM's N5, voxel corners in files of gunpowder and funlib.persistence. Give it for writers
                that stored something else or nothing.
            select: for an axis before the spatial ones the entry to read, by its index or, for channels, its label:
                ``{"t": 0, "c": "mito"}``. Without a selection, all channels are read.
            unit: the unit of lengths in a file that names none: "nanometer", "micrometer", "angstrom", ...
            voxel_size: the voxel size (nm) of the finest level of a file that states none.
            alignment: the treatment of a lattice that does not fit: see
                :data:`~scalenet_gp.volumes.level_match.Alignment`.
            cache: keeps decoded chunks; by default nothing is kept.

        Raises:
            FileNotFoundError: there is nothing at ``path``, or a level that its metadata names is missing.
            VolumeFormatError: no volume; metadata that are malformed, incomplete or contradict each other; or levels
                whose corners disagree.
            ArgumentError: arguments that do not fit.
            OSError: the metadata cannot be read.
        """
        size = None if voxel_size is None else exact_size(voxel_size)
        metadata = read_volume(path, ReadOptions(translation, dict(select or {}), unit, cache, size))
        return cls._of(str(path), metadata, alignment)

    @classmethod
    def from_arrays(
        cls,
        arrays: Sequence[np.ndarray],
        voxel_sizes: Sequence[Iterable[Length]],
        corner: Iterable[Length] | None = None,
        *,
        name: str = "arrays in memory",
        alignment: Alignment = "exact",
    ) -> MultiscaleImage:
        """Return an image of arrays in memory, which are not copied.

        Args:
            arrays: the levels, from fine to coarse: (z, y, x), (y, x), or either after a channel axis.
            voxel_sizes: the voxel size of each, nm.
            corner: the corner of the first voxel, nm; zero by default.
            name: a name for messages.
            alignment: the treatment of a lattice that does not fit: see
                :data:`~scalenet_gp.volumes.level_match.Alignment`.

        Raises:
            ArgumentError: no arrays, arrays and voxel sizes that do not fit each other, or no such alignment.
        """
        return cls._of(name, describe_arrays(name, arrays, voxel_sizes, corner), alignment)

    @classmethod
    def _of(cls, path: str, metadata: VolumeMetadata, alignment: Alignment) -> MultiscaleImage:
        return cls(path, metadata.levels, metadata.channels or 1, metadata.dtype, metadata.arrays, alignment)

    @property
    def dims(self) -> int:
        """The number of spatial axes: 3 (z, y, x) or 2 (y, x)."""
        return len(self.levels[0].shape)

    def world(self, *voxel_sizes: Iterable[Length], unit: Length | None = None) -> World:
        """Return the world in which this volume's corner lies on the lattice of every one of ``voxel_sizes``.

        Its origin is the corner up to whole steps of the coarsest lattice: the choice that is nearest to zero.
        So the origin of a volume whose first voxel centre is at zero is minus half a voxel, and world coordinates stay
        near the physical ones.

        Args:
            voxel_sizes: nm; by default those of the levels.
            unit: nm per world unit; by default the largest that makes every voxel size whole.

        Raises:
            ArgumentError: a voxel size of the wrong number of axes, or not positive.
        """
        sizes = [exact_size(size) for size in voxel_sizes] or [level.voxel_size for level in self.levels]
        for size in sizes:
            if len(size) != self.dims or min(size) <= 0:
                raise ArgumentError(
                    f"{self.path}: voxel size {format_size(size)} nm has to be {self.dims} positive lengths"
                )
        return fitting_world(self.levels[0].begin, sizes, None if unit is None else exact(unit))

    def roi(self, voxel_size: Iterable[int], world: World, labels: bool = False) -> Roi:
        """Return the world ROI of the whole voxels at ``voxel_size``; empty if there is none.

        Args:
            voxel_size: world units.
            world: the world in whose lattice the voxels lie.
            labels: the values are names, not quantities.

        Raises:
            LatticeError: no level can give this voxel size.
        """
        size = self._size(voxel_size)
        available = self._match(size, world, labels).available()
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
        """Read the voxels of ``roi``, (channel, z, y, x), in the dtype of the volume.

        They come from the level of this voxel size. Without such a level, they come from the coarsest level that
        divides it: the mean of whole blocks of voxels (integers rounded, halves to even) or, for labels, their majority
        (the smallest label of several). A volume opened with ``alignment="resample"`` is read from its coarsest level
        that is fine enough, and its labels also where none is: see :data:`~scalenet_gp.volumes.level_match.Alignment`.

        Args:
            roi: world units, on the lattice of ``voxel_size``.
            voxel_size: world units.
            labels: the values are names, not quantities.
            padding: the values outside the volume. None: the ROI has to lie inside. "constant": ``fill_value``.
                "reflect": the volume mirrored at its faces, at any distance; a padded voxel depends on its position
                only.
            fill_value: for constant padding.

        Raises:
            LatticeError: no level can give this voxel size; ``roi`` is off its lattice, or, without padding, reaches
                out of the volume.
            ArgumentError: ``fill_value`` does not fit the dtype.
            UnreadableDataError: a chunk cannot be decoded.
        """
        return self.start(roi, voxel_size, world, labels, padding, fill_value)()

    def start(
        self,
        roi: Roi,
        voxel_size: Iterable[int],
        world: World,
        labels: bool = False,
        padding: Padding | None = None,
        fill_value: float = 0,
    ) -> Callable[[], np.ndarray]:
        """Start to :meth:`read`; call the returned function to wait for the voxels.

        Reads that are started together are decoded together, on all cores. Raises as :meth:`read`, now or then.
        """
        self.check_padding(padding, fill_value)
        size = self._size(voxel_size)
        match = self._match(size, world, labels)
        begin, end = self._voxels(roi, size)
        low, high = self._available(match, size, world)
        wanted = list(zip(begin, end, strict=True))
        inside = [
            (min(max(b, first), last), min(max(e, first), last))
            for (b, e), first, last in zip(wanted, low, high, strict=True)
        ]
        if inside == wanted or (padding == "reflect" and not match.whole and not labels):
            return self._blocks(match, wanted, labels)
        if padding == "reflect":
            return self._mirrored(match, wanted, (low, high), labels)
        if padding is None:
            raise self._beyond(roi, size, world, labels)
        content = self._blocks(match, inside, labels) if all(b < e for b, e in inside) else None
        target = (slice(None), *(slice(f - b, t - b) for (f, t), b in zip(inside, begin, strict=True)))

        def padded() -> np.ndarray:
            data = np.full((self.channels, *np.subtract(end, begin)), fill_value, dtype=self.dtype)
            if content is not None:
                data[target] = content()
            return data

        return padded

    def start_stored(
        self, roi: Roi, voxel_size: Iterable[int], world: World
    ) -> tuple[Callable[[], np.ndarray], StoredGrid]:
        """Start to read the stored voxels from which :meth:`read` makes labels, for other reductions.

        Returns:
            The function to call to wait for the voxels of the level that serves this voxel size, (channel, z, y, x);
            and their place. Those at the faces of ``roi`` may reach out of it, unless whole ones make the served
            voxels. Raises as :meth:`read` of labels, unpadded.
        """
        size = self._size(voxel_size)
        match = self._match(size, world, labels=True)
        box = list(zip(*self._voxels(roi, size), strict=True))
        available = zip(*self._available(match, size, world), strict=True)
        if any(b < first or e > last for (b, e), (first, last) in zip(box, available, strict=True)):
            raise self._beyond(roi, size, world, labels=True)
        stored = match.blocks(box)
        return self._stored(match.level, stored), match.grid(stored)

    def valid(self, roi: Roi, voxel_size: Iterable[int], world: World, labels: bool = False) -> np.ndarray:
        """Return a mask of the data: uint8 (1, z, y, x), 1 inside the volume and 0 outside.

        Raises:
            LatticeError: as :meth:`read` with padding.
        """
        size = self._size(voxel_size)
        available = self._match(size, world, labels).available()
        begin, end = self._voxels(roi, size)
        mask = np.zeros((1, *np.subtract(end, begin)), dtype=np.uint8)
        if available is not None:
            low, high = available
            inside = tuple(slice(max(f - b, 0), max(t - b, 0)) for b, f, t in zip(begin, low, high, strict=True))
            mask[(slice(None), *inside)] = 1
        return mask

    def check_padding(self, padding: Padding | None, fill_value: float) -> None:
        """Check that this volume can be padded so.

        Raises:
            ArgumentError: no such padding, or a fill value that does not fit the dtype.
        """
        if padding not in (None, "constant", "reflect"):
            raise ArgumentError(f"padding={padding!r} has to be None, 'constant' or 'reflect'")
        if self.dtype.kind == "f":
            return
        low, high = (0, 1) if self.dtype.kind == "b" else (np.iinfo(self.dtype).min, np.iinfo(self.dtype).max)
        if not (low <= fill_value <= high and fill_value == int(fill_value)):
            raise ArgumentError(f"{self.path}: the fill value {fill_value} does not fit {self.dtype}")

    def _available(self, match: LevelMatch, size: Coordinate, world: World) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return begin and end of the served voxels that there are."""
        available = match.available()
        if available is None:
            raise LatticeError(f"{self.path} has no whole voxel of {self._nm(size, world)}")
        return available

    def _beyond(self, roi: Roi, size: Coordinate, world: World, labels: bool) -> LatticeError:
        return LatticeError(
            f"{self.path}: ROI {roi} reaches out of {self.roi(size, world, labels)}, which is all there is at "
            f"{self._nm(size, world)}; padding='constant' or 'reflect' would fill it"
        )

    def _mirrored(
        self,
        match: LevelMatch,
        box: Iterable[tuple[int, int]],
        available: tuple[tuple[int, ...], tuple[int, ...]],
        labels: bool,
    ) -> Callable[[], np.ndarray]:
        """Start to read the served voxels in ``box``, those outside ``available`` mirrored at its faces."""
        indices = [reflect_indices(np.arange(*ends), *faces) for ends, *faces in zip(box, *available, strict=True)]
        spans = [(int(index.min()), int(index.max()) + 1) for index in indices]
        blocks = self._blocks(match, spans, labels)

        def mirrored() -> np.ndarray:
            data = blocks()
            for axis, (index, (first, last)) in enumerate(zip(indices, spans, strict=True), start=1):
                if not np.array_equal(index, np.arange(first, last)):
                    data = data.take(index - first, axis)
            return data

        return mirrored

    def _blocks(self, match: LevelMatch, box: Sequence[tuple[int, int]], labels: bool) -> Callable[[], np.ndarray]:
        """Start to read the served voxels in ``box``, (channel, z, y, x).

        It lies inside the volume. Where quantities are resampled it need not: the volume is mirrored at its faces.
        """
        if match.whole:
            whole = self._stored(match.level, match.blocks(box))
            reduce = block_majority if labels else block_mean
            return lambda: reduce(whole(), tuple(map(int, match.factor)))
        if labels:
            spans = match.blocks(box)
            names, grid = self._stored(match.level, spans), match.grid(spans)
            return lambda: volume_mode(names(), grid, tuple(box))
        covered = match.coverage(box)
        stored = self._stored(match.level, (along.span for along in covered))
        return lambda: weighted_mean(stored(), covered)

    def _stored(self, level: int, box: Iterable[tuple[int, int]]) -> Callable[[], np.ndarray]:
        """Start to read the voxels in ``box`` of a level, counted from its first one: (channel, z, y, x)."""
        array = self._arrays[level]
        slices = tuple(slice(b, e) for b, e in box)
        if len(array.shape) > self.dims:
            return array.start((slice(0, self.channels), *slices))
        voxels = array.start(slices)
        return lambda: voxels()[np.newaxis]

    def _match(self, size: Coordinate, world: World, labels: bool) -> LevelMatch:
        if (size, world, labels) not in self._matches:
            try:
                match = match_level(self.levels, size, world, self.alignment, labels=labels)
            except ValueError as error:
                raise LatticeError(f"{self.path}: {error}") from error
            self._matches[size, world, labels] = match
        return self._matches[size, world, labels]

    def _size(self, voxel_size: Iterable[int]) -> Coordinate:
        lengths = voxel_size if isinstance(voxel_size, Coordinate) else exact_size(voxel_size)
        if len(lengths) != self.dims or any(length <= 0 or length.denominator != 1 for length in lengths):
            raise ArgumentError(
                f"{self.path}: voxel size ({', '.join(map(str, lengths))}) has to be {self.dims} positive whole "
                "numbers of world units; World.size converts from nm"
            )
        return Coordinate(map(int, lengths))

    def _voxels(self, roi: Roi, size: Coordinate) -> tuple[Coordinate, Coordinate]:
        """Begin and end of ``roi`` in voxels from the world's origin."""
        if roi.dims != self.dims or roi.unbounded or roi.empty:
            raise ArgumentError(f"{self.path}: ROI {roi} has to be bounded, not empty, and of {self.dims} axes")
        if not (roi.begin.is_multiple_of(size) and roi.shape.is_multiple_of(size)):
            nearest = roi.snap_to_grid(size, mode="closest")
            nearest = roi.snap_to_grid(size, mode="grow") if nearest.empty else nearest
            raise LatticeError(
                f"{self.path}: ROI {roi} is off the lattice of voxels of {tuple(size)} world units; "
                f"the nearest on it is {nearest}"
            )
        return roi.begin // size, roi.end // size

    def _nm(self, size: Coordinate, world: World) -> str:
        return f"{format_size(world.size_in_nm(size))} nm"
