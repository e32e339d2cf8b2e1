"""Samples of the intensities of a volume: what its tissue spans, without reading all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import floor, prod
from typing import final

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import DataError
from scalenet_gp.geometry import Length, exact_size
from scalenet_gp.volumes.metadata import Level
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from scalenet_gp.volumes.stored_array import UnreadableDataError

__all__ = ["IntensitySample", "sample_intensities", "spread_blocks", "spread_boxes"]

_EDGE = {2: 256, 3: 32}
"""Voxels along the edge of a block, by the number of axes."""

_TEXTURE = 0.25
"""Least standard deviation of a block of tissue, relative to that of the blocks with the most contrast."""


@final
@dataclass(frozen=True, slots=True)
class IntensitySample:
    """Stored values of a volume, those of tissue as far as that can be told.

    Attributes:
        path: path of the volume.
        values: finite values of blocks with texture, without areas of one value. All finite values where that leaves
            none.
        whole: whether the values are integers.

    Example:
        >>> import numpy as np
        >>> IntensitySample("em", np.arange(1001.0), whole=True).window()
        (5.0, 995.0)
    """

    path: str
    values: np.ndarray
    whole: bool

    def window(self, shares: tuple[float, float] = (0.5, 99.5)) -> tuple[float, float]:
        """Return two percentiles of the values: whole numbers for integers, six digits for floats.

        Raises:
            DataError: all values are one, or none is finite.
        """
        if not self.values.size:
            raise DataError(f"{self.path}: none of the sampled values is finite; there is nothing to see in it")
        low, high = (float(value) for value in np.percentile(self.values, shares))
        if low == high:
            low, high = float(self.values.min()), float(self.values.max())
        if low == high:
            raise DataError(f"{self.path}: every sampled value is {low:g}; there is nothing to see in it")
        if self.whole:
            return float(np.floor(low)), float(np.ceil(high))
        rounded = float(f"{low:.6g}"), float(f"{high:.6g}")
        return rounded if rounded[0] < rounded[1] else (low, high)

    def share_within(self, low: float, high: float) -> float:
        """Return the share of the values from ``low`` to ``high``; 1 if there are none."""
        if not self.values.size:
            return 1.0
        return float(np.mean((self.values >= low) & (self.values <= high)))


def sample_intensities(
    image: MultiscaleImage, voxel_size: Iterable[Length] | None = None, blocks: int = 64
) -> IntensitySample:
    """Return values of blocks that are spread evenly over a volume; the same for the same volume.

    Args:
        image: the volume.
        voxel_size: nm; the level to read is the coarsest that is as fine. The finest unless given.
        blocks: number of blocks, of 32 voxels along an edge, or of 256 in two dimensions. Those that cannot be read are
            left out.
    """
    wanted = None if voxel_size is None else exact_size(voxel_size)
    level = image.levels[0]
    for other in image.levels[1:]:
        if wanted is not None and all(a <= b for a, b in zip(other.voxel_size, wanted, strict=True)):
            level = other
    values = _of_tissue([block for block in spread_blocks(image, level, blocks) if block is not None])
    return IntensitySample(image.path, values.astype(np.float64), image.dtype.kind in "iub")


def spread_blocks(image: MultiscaleImage, level: Level, most: int) -> list[np.ndarray | None]:
    """Return blocks of a level, (channel, z, y, x), of 32 voxels along an edge, or of 256 in two dimensions.

    A block that cannot be read is None.

    Args:
        image: the volume.
        level: one of its levels.
        most: number of blocks; a small level has fewer.
    """
    world = image.world(level.voxel_size)
    size = world.size(level.voxel_size, "a voxel")
    reads = []
    for begin, end in spread_boxes(level.shape, _EDGE[image.dims], most):
        corner = world.position(level.begin) + Coordinate(begin) * size
        roi = Roi(corner, (Coordinate(end) - Coordinate(begin)) * size)
        reads.append(image.start(roi, size, world))
    return [_read(finish) for finish in reads]


def _read(finish: Callable[[], np.ndarray]) -> np.ndarray | None:
    try:
        return finish()
    except UnreadableDataError:
        return None


def spread_boxes(shape: Sequence[int], edge: int, most: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield the begins and ends of at most so many boxes (voxels), spread evenly over a grid of boxes.

    Args:
        shape: voxels.
        edge: voxels along the edge of a box; at the end of an axis it may be cut.
        most: number of boxes; a small shape has fewer.
    """
    counts = [-(-length // edge) for length in shape]
    if prod(counts) <= most:
        chosen = list(np.ndindex(*counts))
    else:
        # the additive recurrence of the generalised golden ratio: x ** (d + 1) = x + 1
        ratio = 1.5
        for _ in range(40):
            ratio = (1 + ratio) ** (1 / (len(shape) + 1))
        steps = [ratio ** -(axis + 1) for axis in range(len(shape))]
        places = (
            tuple(floor((0.5 + number * step) % 1 * n) for step, n in zip(steps, counts, strict=True))
            for number in range(1, most + 1)
        )
        chosen = list(dict.fromkeys(places))
    for index in chosen:
        begin = tuple(i * edge for i in index)
        yield begin, tuple(min(b + edge, n) for b, n in zip(begin, shape, strict=True))


def _of_tissue(blocks: list[np.ndarray]) -> np.ndarray:
    """Return the finite values of blocks with texture, without areas of one value, unless that leaves none."""
    if not blocks:
        return np.empty(0)
    kept = [block[_varied(block)] for block in blocks]
    deviations = np.array([values.astype(np.float64).std() if values.size else 0.0 for values in kept])
    contrast = np.percentile(deviations, 90)
    textured = [
        values
        for values, deviation in zip(kept, deviations, strict=True)
        if values.size and deviation >= _TEXTURE * contrast
    ]
    chosen = np.concatenate(textured) if textured else np.empty(0)
    if chosen.size:
        return chosen
    return np.concatenate([block[np.isfinite(block)] for block in blocks])


def _varied(block: np.ndarray) -> np.ndarray:
    """Return whether a voxel is finite and differs from one of its neighbours in the last two axes."""
    varied = np.zeros(block.shape, dtype=bool)
    for axis in (-2, -1):
        if block.shape[axis] > 1:
            low, high = [slice(None)] * block.ndim, [slice(None)] * block.ndim
            low[axis], high[axis] = slice(None, -1), slice(1, None)
            unequal = block[tuple(low)] != block[tuple(high)]
            varied[tuple(low)] |= unequal
            varied[tuple(high)] |= unequal
    return varied & np.isfinite(block)
