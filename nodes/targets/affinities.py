"""Affinities of voxel pairs, from labels of instances."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import final

import numpy as np
from gunpowder import ArrayKey, Coordinate

from scalenet_gp.errors import ArgumentError, DataError, PipelineError
from scalenet_gp.nodes.targets.derived_array import DerivedArray

__all__ = ["Affinities"]


@final
class Affinities(DerivedArray):
    """Provide affinities: 1 where a voxel and its neighbor at an offset belong to the same instance.

    The affinities are uint8 (offset, z, y, x): 1 where the labels of a voxel and of the voxel at the offset from it are
    equal and not 0, the background. The node asks for labels as far as the offsets reach, so that the affinities of a
    ROI are complete. The mask has the same shape: 1 where both voxels are known. Elsewhere the affinity is 0.

    Without ``mask``, the padding of a source counts as annotated: at the faces of the volume, the affinities to it are
    known to be 0. So give padded labels with their mask.

    Labels are compared in their own dtype: 64-bit identifiers stay apart.

    Args:
        labels: the instances, one channel; at coarse voxel sizes from ``MultiscaleSource(labels=True)``.
        affinities: the array to provide.
        offsets: from a voxel to its neighbors, in voxels of ``labels``.
        mask: 1 where the labels are known. None: they are known everywhere.
        affinities_mask: the key of the mask of the affinities.
        unknown: the label of voxels that nobody has annotated, or several, if there are any.

    Raises:
        ArgumentError: no offsets, or offsets that are not whole numbers of voxels along the same axes.
        PipelineError: when the pipeline is built: offsets of other axes than the labels; also as :class:`DerivedArray`.
        DataError: for a batch: labels of several channels.

    Example:
        >>> import gunpowder as gp
        >>> labels, affinities = gp.ArrayKey("LABELS"), gp.ArrayKey("AFFINITIES")
        >>> Affinities(labels, affinities, [(1, 0, 0), (0, 1, 0), (0, 0, 1)]).offsets
        ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    """

    def __init__(
        self,
        labels: ArrayKey,
        affinities: ArrayKey,
        offsets: Iterable[Iterable[int]],
        *,
        mask: ArrayKey | None = None,
        affinities_mask: ArrayKey | None = None,
        unknown: int | Collection[int] | None = None,
    ) -> None:
        super().__init__(labels, mask, (affinities, np.uint8), (affinities_mask, np.uint8))
        self.affinities, self.affinities_mask = affinities, affinities_mask
        self.unknown = () if unknown is None else (unknown,) if isinstance(unknown, int) else tuple(unknown)
        self.offsets = _whole(tuple(offsets))

    def margin(self, voxel_size: Coordinate) -> tuple[Coordinate, Coordinate]:
        """Return how many voxels the offsets reach, below and above."""
        if len(voxel_size) != len(self.offsets[0]):
            raise PipelineError(
                f"{self.name()}: the offsets have {len(self.offsets[0])} axes, {self.source} has {len(voxel_size)}"
            )
        along = list(zip(*self.offsets, strict=True))
        return (
            Coordinate(max(0, -min(lengths)) for lengths in along),
            Coordinate(max(0, max(lengths)) for lengths in along),
        )

    def derive(
        self, values: np.ndarray, known: np.ndarray, voxel_size: Coordinate
    ) -> Mapping[ArrayKey | None, np.ndarray]:
        """Return affinities and mask at every offset."""
        if len(values) != 1:
            raise DataError(f"{self.name()}: the labels {self.source} have {len(values)} channels; they have to have 1")
        labels, sure = values[0], known[0]
        for unknown in self.unknown:
            sure = sure & (labels != unknown)
        below, above = self.margin(voxel_size)
        shape = tuple(n - b - a for n, b, a in zip(labels.shape, below, above, strict=True))

        def at(array: np.ndarray, offset: Iterable[int]) -> np.ndarray:
            return array[tuple(slice(b + o, b + o + n) for b, o, n in zip(below, offset, shape, strict=True))]

        here = (0,) * len(shape)
        own, own_sure = at(labels, here), at(sure, here)
        both = np.stack([own_sure & at(sure, offset) for offset in self.offsets])
        same = np.stack([own == at(labels, offset) for offset in self.offsets]) & (own != 0) & both
        return {self.affinities: same.astype(np.uint8), self.affinities_mask: both.astype(np.uint8)}


def _whole(offsets: tuple[Iterable[int], ...]) -> tuple[tuple[int, ...], ...]:
    """Return the offsets as tuples of integers."""
    if not all(isinstance(offset, Iterable) for offset in offsets):
        raise ArgumentError(f"offsets={offsets} have to be offsets, each with one length per axis, as in [(1, 0, 0)]")
    given = tuple(tuple(offset) for offset in offsets)
    axes = {len(offset) for offset in given}
    if len(axes) != 1 or axes == {0}:
        raise ArgumentError(f"offsets={given} have to be one or more, all with the same number of axes")
    if any(length % 1 != 0 for offset in given for length in offset):
        raise ArgumentError(f"offsets={given} have to be whole numbers of voxels")
    return tuple(tuple(int(length) for length in offset) for offset in given)
