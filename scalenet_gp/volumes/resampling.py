"""Voxels of one lattice from those of another that is shifted against it, or finer by any factor of at least one.

Along each axis a served voxel is the mean of boxes of the length of a stored voxel, as few as cover it, spread evenly
from its one face to the other. A box is the mean of the two stored voxels that it lies across, by the share of each. So

- of equal voxel sizes and a shift by a share ``f`` of a voxel, a served voxel is ``(1 - f) * a + f * b``;
- a whole factor gives the mean of what the served voxel covers, by the covered volume;
- what is linear in space stays where it is for *any* factor, since the boxes lie evenly about the centre. Where the
  factor is not a whole number, the share of the covered volume alone would move it by up to an eighth of a stored
  voxel, at every position and scale otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import final

import numpy as np

from scalenet_gp.kernels import numba_jit
from scalenet_gp.volumes.reduction import round_to_type

__all__ = ["Coverage", "weighted_mean"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """Along one axis: the stored voxels that every served voxel covers, and by how much.

    Args:
        index: (served, taps) of the stored voxels.
        weight: (served, taps), whole numbers in float64: sums of small integers stay exact.
        total: of the weights of every served voxel.
    """

    index: np.ndarray
    weight: np.ndarray
    total: int

    @classmethod
    def of(cls, begin: int, end: int, factor: Fraction, first: Fraction) -> Coverage:
        """Return the coverage of the stored voxels by the served ones in [begin, end).

        The result for a served voxel depends on its own number only, not on the range.

        Args:
            begin: the first served voxel, counted from the origin of their lattice.
            end: the end of the range, likewise.
            factor: stored voxels per served voxel, at least 1.
            first: where the stored voxel 0 begins, counted in stored voxels from the origin.
        """
        boxes = math.ceil(factor)
        stride = (factor - 1) / (boxes - 1) if boxes > 1 else Fraction(0)
        # from here on lengths are whole numbers of parts, of which a stored voxel has `voxel`
        voxel = math.lcm(factor.denominator, first.denominator, stride.denominator)
        served, corner, step = int(factor * voxel), int(first * voxel), int(stride * voxel)
        whole, rest = divmod(begin * served - corner, voxel)
        low = rest + served * np.arange(end - begin)
        lowest, last = low // voxel, -(-(low + served) // voxel) - 1
        # the phases of served voxels against stored ones are `grain` apart; the furthest one touches the most voxels
        grain = math.gcd(served, voxel)
        taps = -(-(voxel - grain + -corner % grain + served) // voxel)
        index = lowest[:, np.newaxis] + np.arange(taps)
        box = (low[:, np.newaxis] + step * np.arange(boxes))[:, np.newaxis, :]
        edge = (index * voxel)[:, :, np.newaxis]
        overlap = np.minimum(box, edge) + voxel - np.maximum(box, edge)
        weight = np.maximum(overlap, 0).sum(axis=-1).astype(np.float64)
        # a tap beyond the last covered voxel weighs nothing; it must not reach for a voxel that need not exist
        return cls(whole + np.minimum(index, last[:, np.newaxis]), weight, boxes * voxel)

    @property
    def span(self) -> tuple[int, int]:
        """Begin and end of the covered stored voxels."""
        return int(self.index.min()), int(self.index.max()) + 1


def weighted_mean(data: np.ndarray, coverage: Sequence[Coverage]) -> np.ndarray:
    """Return the served voxels, in the dtype of ``data``: integers are rounded once, halves to even.

    Computed in float64, and exact before the rounding for integers whose weighted sums stay below 2 ** 53.

    Args:
        data: (..., z, y, x) or (..., y, x): the stored voxels in the spans of ``coverage``.
        coverage: of the trailing axes.
    """
    dims = len(coverage)
    axes = [*[_ONE] * (3 - dims), *coverage]
    stored = data.reshape(-1, *(1,) * (3 - dims), *data.shape[data.ndim - dims :])
    sums = np.empty((len(stored), *(len(along.index) for along in axes)), dtype=np.result_type(data.dtype, np.float64))
    stored = stored.astype(_COMPILED.get(data.dtype.name, data.dtype.newbyteorder("=")), copy=False)
    z, y, x = (along.index - along.span[0] for along in axes)
    _sum(stored, z, axes[0].weight, y, axes[1].weight, x, axes[2].weight, sums)
    sums /= math.prod(along.total for along in axes)
    return round_to_type(sums, data.dtype).reshape(*data.shape[: data.ndim - dims], *sums.shape[4 - dims :])


_ONE = Coverage.of(0, 1, Fraction(1), Fraction(0))
_COMPILED = {"bool": np.uint8, "float16": np.float32}  # what compiled code does not know


@numba_jit
def _sum(data, index_z, weight_z, index_y, weight_y, index_x, weight_x, sums):  # type: ignore[no-untyped-def]
    """Weighted sums of ``data``, (channel, z, y, x), into ``sums``: axis by axis, always in the same order."""
    plane = np.empty(data.shape[2:], sums.dtype)
    row = np.empty(data.shape[3], sums.dtype)
    for c in range(len(data)):
        for i in range(len(index_z)):
            plane[:] = 0
            for tap in range(index_z.shape[1]):
                z, weight = index_z[i, tap], weight_z[i, tap]
                for y in range(plane.shape[0]):
                    for x in range(plane.shape[1]):
                        plane[y, x] += weight * data[c, z, y, x]
            for j in range(len(index_y)):
                row[:] = 0
                for tap in range(index_y.shape[1]):
                    y, weight = index_y[j, tap], weight_y[j, tap]
                    for x in range(len(row)):
                        row[x] += weight * plane[y, x]
                for k in range(len(index_x)):
                    total = weight_x[k, 0] * row[index_x[k, 0]]
                    for tap in range(1, index_x.shape[1]):
                        total += weight_x[k, tap] * row[index_x[k, tap]]
                    sums[c, i, j, k] = total
