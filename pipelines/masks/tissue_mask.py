"""The job that makes a mask of the tissue in a volume, so that the rest need not be predicted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import log, prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import DTypeLike

from scalenet_gp.errors import ArgumentError, DataError
from scalenet_gp.geometry import Length, World, exact_size, format_size
from scalenet_gp.pipelines.plots import draw_mask
from scalenet_gp.pipelines.process import progress_bar
from scalenet_gp.tissue import (
    TEXTURE_CHANNELS,
    TextureOptions,
    cell_texture,
    is_tissue,
    tissue_confidence,
    tissue_evidence,
)
from scalenet_gp.volumes import MultiscaleImage, MultiscaleWriter, StrPath, Translation, create_group

__all__ = ["mask_of_prediction", "mask_tissue", "texture_voxel_size"]

_BLOCK = {2: 4096, 3: 256}  # edge of a block, voxels
_BEST_NM = 90  # between 64 and 128 nm
_LEAST_VOXELS = 64


def mask_tissue(
    volume: StrPath,
    output: Path,
    options: TextureOptions | None = None,
    voxel_size: Iterable[Length] | None = None,
    block: int | None = None,
    translation: Translation | None = None,
    unit: str | None = None,
    select: Mapping[str, int | str] | None = None,
) -> Path:
    """Find tissue by its texture: see :func:`scalenet_gp.tissue.em_texture_masking`, whose result this is.

    The volume is read twice at most, block by block. Global decisions are made on cells, which are kept in memory:
    about 2 bytes for every voxel at ``voxel_size`` with ``block_size`` 64, and 16 with 32 or less.

    Args:
        volume: raw data, a multiscale volume of one channel, or with one that is selected.
        output: zarr group to make, whole or not at all: the volumes ``mask`` (uint8, 1 is tissue) and ``confidence``
            (float32), and ``mask.png``, sections of both.
        options: options of the texture; lengths in voxels of ``voxel_size``.
        voxel_size: nm, one for each axis or one for all; :func:`texture_voxel_size` unless given.
        block: edge of a block, voxels; 256, or 4096 in two dimensions, unless given. It does not change the result.
        translation: the point of a voxel that the volume's file states: see :meth:`.MultiscaleImage.open`.
        unit: the unit of lengths in a file that names none.
        select: for an axis before the spatial ones the entry to read.

    Returns:
        ``output``.

    Raises:
        FileExistsError: there is something at ``output``.
        FileNotFoundError: there is no such volume.
        ArgumentError: the volume has several channels, no voxels of that size, or fewer than ``min_region_size``.
        DataError: the volume is a single voxel, or has values that are not finite.
    """
    options = options or TextureOptions()
    raw = _Grid.of(MultiscaleImage.open(volume, translation, select=select, unit=unit), voxel_size)
    edge = max(1, (block or _BLOCK[raw.dims]) // options.cell) * options.cell
    boxes = list(_boxes(raw.shape, edge))
    cells = np.empty((TEXTURE_CHANNELS, *(-(-n // options.cell) for n in raw.shape)), np.float32)
    if prod(raw.shape) < 2:
        raise DataError(f"{volume}: a single voxel of {format_size(raw.voxel_size)} nm has no texture")
    if options.min_region_size > prod(raw.shape):
        raise ArgumentError(
            f"min_region_size={options.min_region_size}: {volume} has only {prod(raw.shape)} voxels of "
            f"{format_size(raw.voxel_size)} nm, so that no region is as large; write a smaller number"
        )
    attributes = {"source": str(volume), "texture": asdict(options)}
    with (
        _mask_volumes(output, raw, attributes) as write,
        progress_bar("finding tissue", 2 * len(boxes)) as advance,
    ):
        for begin, end in boxes:
            low = [max(b - options.reach, 0) for b in begin]
            high = [min(e + options.reach, n) for e, n in zip(end, raw.shape, strict=True)]
            core = [slice(b - first, e - first) for b, e, first in zip(begin, end, low, strict=True)]
            place = tuple(slice(b // options.cell, -(-e // options.cell)) for b, e in zip(begin, end, strict=True))
            cells[:, *place] = cell_texture(raw.read(low, high), options, raw.shape, core)
            advance("")
        evidence = tissue_evidence(cells, options, raw.shape)
        for begin, end in boxes:
            shape = tuple(e - b for b, e in zip(begin, end, strict=True))
            confidence = tissue_confidence(evidence, options, begin, shape)
            write(begin, is_tissue(confidence), confidence)
            advance("")
    return output


def mask_of_prediction(
    prediction: StrPath,
    output: Path,
    label: str | None = None,
    threshold: float = 0.5,
    translation: Translation | None = None,
) -> Path:
    """Make a mask of a network's prediction, the learned way to find tissue.

    Args:
        prediction: a multiscale volume of probabilities, as
            :func:`scalenet_gp.pipelines.prediction.predict` writes them;
            integers count as fractions of the range of their type.
        output: zarr group to make, like that of :func:`mask_tissue`, with the probability as confidence.
        label: name of the class that is tissue; not needed if there is only one class.
        threshold: least probability of a voxel of tissue.
        translation: the point of a voxel that the prediction's file states: see :meth:`.MultiscaleImage.open`.

    Returns:
        ``output``.

    Raises:
        FileExistsError: there is something at ``output``.
        FileNotFoundError: there is no such prediction.
        ArgumentError: there is no such class, or several and none is named; or the threshold is not above 0 and at most
            1.
    """
    if not 0 < threshold <= 1:
        raise ArgumentError(f"threshold={threshold!r} has to be a probability above 0 and at most 1")
    opened = MultiscaleImage.open(prediction, translation, select=None if label is None else {"c": label})
    found = _Grid.of(opened, opened.levels[0].voxel_size)
    largest = np.iinfo(opened.dtype).max if opened.dtype.kind in "iu" else 1
    boxes = list(_boxes(found.shape, _BLOCK[found.dims]))
    attributes = {"source": str(prediction), "class": label, "threshold": threshold}
    with _mask_volumes(output, found, attributes) as write, progress_bar("masking", len(boxes)) as advance:
        for begin, end in boxes:
            probability = (found.read(begin, end) / np.float32(largest)).astype(np.float32)
            write(begin, probability >= threshold, probability)
            advance("")
    return output


def texture_voxel_size(volume: MultiscaleImage) -> tuple[Fraction, ...]:
    """Return the voxel size (nm) of the level that shows texture best.

    It is the one nearest to 90 nm, by the geometric mean of its axes, among the levels of at least 64 voxels along
    every axis, or among all levels if each has an axis with fewer.
    """
    large = [level for level in volume.levels if min(level.shape) >= _LEAST_VOXELS] or volume.levels

    def distance(voxel_size: tuple[Fraction, ...]) -> float:
        return abs(sum(log(length / _BEST_NM) for length in voxel_size))

    return min((level.voxel_size for level in large), key=distance)


@dataclass(frozen=True, slots=True)
class _Grid:
    """A volume at one voxel size, with voxels counted from its corner."""

    volume: MultiscaleImage
    world: World
    size: Coordinate
    roi: Roi

    @classmethod
    def of(cls, volume: MultiscaleImage, voxel_size: Iterable[Length] | None) -> _Grid:
        """Return all of ``volume`` at a voxel size (nm).

        Raises:
            ArgumentError: it has several channels, or no whole voxel of this size.
        """
        if volume.channels > 1:
            raise ArgumentError(f"{volume.path} has {volume.channels} channels; name the one that is tissue")
        nm = texture_voxel_size(volume) if voxel_size is None else exact_size(voxel_size)
        nm = nm * volume.dims if len(nm) == 1 else nm
        world = volume.world(nm)
        size = world.size(nm)
        roi = volume.roi(size, world)
        if roi.empty:
            raise ArgumentError(f"{volume.path} has no whole voxel of {format_size(nm)} nm")
        return cls(volume, world, size, roi)

    @property
    def dims(self) -> int:
        return self.volume.dims

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.roi.shape / self.size)

    @property
    def voxel_size(self) -> tuple[Fraction, ...]:
        return self.world.size_in_nm(self.size)

    @property
    def corner(self) -> tuple[Fraction, ...]:
        return self.world.position_in_nm(self.roi.begin)

    def read(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray:
        """Read the voxels of a box, (z, y, x) or (y, x)."""
        first = self.roi.begin + Coordinate(begin) * self.size
        box = Roi(first, Coordinate(np.subtract(end, begin)) * self.size)
        return self.volume.read(box, self.size, self.world)[0]

    def writer(self, path: Path, dtype: DTypeLike, attributes: Mapping[str, object]) -> MultiscaleWriter:
        """Return the writer of a volume of the same voxels."""
        return MultiscaleWriter(
            path,
            voxel_size=self.voxel_size,
            corner=self.corner,
            shape=self.shape,
            dtype=dtype,
            labels=dtype == np.uint8,
            attributes=attributes,
        )


@contextmanager
def _mask_volumes(
    output: Path, grid: _Grid, attributes: Mapping[str, object]
) -> Iterator[Callable[[Sequence[int], np.ndarray, np.ndarray], None]]:
    """Yield what writes mask and confidence of a block. Group and picture are at ``output`` after a clean exit."""
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{output.name}.", dir=output.parent) as temporary:
        group = Path(temporary, output.name)
        create_group(group, dict(attributes))
        with (
            grid.writer(group / "mask", np.uint8, attributes) as masks,
            grid.writer(group / "confidence", np.float32, attributes) as confidences,
        ):

            def write(begin: Sequence[int], mask: np.ndarray, confidence: np.ndarray) -> None:
                masks.write(begin, mask.astype(np.uint8))
                confidences.write(begin, confidence)

            yield write
        found = {name: _Grid.of(MultiscaleImage.open(group / name), grid.voxel_size) for name in ("mask", "confidence")}
        draw_mask(
            grid.read, found["mask"].read, found["confidence"].read, grid.shape, grid.voxel_size, group / "mask.png"
        )
        group.rename(output)


def _boxes(shape: Sequence[int], edge: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield the boxes that a volume is cut into: the first voxel, and the one past the last."""
    for begin in itertools.product(*(range(0, n, edge) for n in shape)):
        yield begin, tuple(min(b + edge, n) for b, n in zip(begin, shape, strict=True))
