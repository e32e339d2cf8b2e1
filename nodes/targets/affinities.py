"""Affinities of voxel pairs, from labels of instances."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction
from typing import final

import numpy as np
from gunpowder import ArrayKey, Coordinate

from scalenet_gp.errors import ArgumentError, DataError, PipelineError
from scalenet_gp.geometry import Length, World, exact, format_size
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
        offsets_nm: the same in nm, instead of ``offsets``: whole numbers of voxels.
        world: the world that the pipeline counts in; needed with ``offsets_nm``.
        mask: 1 where the labels are known. None: they are known everywhere.
        affinities_mask: the key of the mask of the affinities.
        unknown: the label of voxels that nobody has annotated, or several, if there are any.

    Raises:
        ArgumentError: no offsets or both kinds of them, or offsets that are not whole numbers of voxels along the same
            axes.
        PipelineError: when the pipeline is built: offsets of other axes than the labels, or in nm that are not whole
            numbers of voxels; also as :class:`DerivedArray`.
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
        offsets: Iterable[Iterable[int]] | None = None,
        *,
        offsets_nm: Iterable[Iterable[Length]] | None = None,
        world: World | None = None,
        mask: ArrayKey | None = None,
        affinities_mask: ArrayKey | None = None,
        unknown: int | Collection[int] | None = None,
    ) -> None:
        super().__init__(labels, mask, (affinities, np.uint8), (affinities_mask, np.uint8))
        self.affinities, self.affinities_mask = affinities, affinities_mask
        self.unknown = () if unknown is None else (unknown,) if isinstance(unknown, int) else tuple(unknown)
        if (offsets is None) == (offsets_nm is None):
            raise ArgumentError(f"{self.name()} has either offsets in voxels or offsets_nm")
        if offsets_nm is not None and world is None:
            raise ArgumentError(f"{self.name()} has offsets_nm, and needs the world that the pipeline counts in")
        self.offsets = () if offsets is None else _whole(_lengths("offsets", offsets))
        self._nm = None if offsets_nm is None or world is None else (_lengths("offsets_nm", offsets_nm), world)

    def in_voxels(self, voxel_size: Coordinate) -> tuple[tuple[int, ...], ...]:
        """Return the offsets in voxels.

        Args:
            voxel_size: of the labels, world units.

        Raises:
            PipelineError: they are of other axes, or in nm and not whole numbers of voxels.
        """
        given = self.offsets if self._nm is None else self._nm[0]
        if len(voxel_size) != len(given[0]):
            raise PipelineError(
                f"{self.name()}: the offsets have {len(given[0])} axes, {self.source} has {len(voxel_size)}"
            )
        if self._nm is None:
            return self.offsets
        offsets, world = self._nm
        sizes = world.size_in_nm(voxel_size)
        for offset in offsets:
            if any(length % size for length, size in zip(offset, sizes, strict=True)):
                # at least a voxel along an axis where there is an offset
                nearest = [
                    (round(length / size) or (length > 0) - (length < 0)) * size
                    for length, size in zip(offset, sizes, strict=True)
                ]
                raise PipelineError(
                    f"{self.name()}: the offset {_text(offset)} nm is not a whole number of voxels of "
                    f"{format_size(sizes)} nm, those of {self.source}; the nearest is {_text(nearest)} nm"
                )
        return tuple(tuple(int(length / size) for length, size in zip(o, sizes, strict=True)) for o in offsets)

    def margin(self, voxel_size: Coordinate) -> tuple[Coordinate, Coordinate]:
        """Return how many voxels the offsets reach, below and above."""
        along = list(zip(*self.in_voxels(voxel_size), strict=True))
        return (
            Coordinate(max(0, -min(lengths)) for lengths in along),
            Coordinate(max(0, max(lengths)) for lengths in along),
        )

    def derive(
        self, values: np.ndarray, known: np.ndarray, begin: Coordinate, voxel_size: Coordinate
    ) -> Mapping[ArrayKey | None, np.ndarray]:
        """Return affinities and mask at every offset."""
        if len(values) != 1:
            raise DataError(f"{self.name()}: the labels {self.source} have {len(values)} channels; they have to have 1")
        labels, sure = values[0], known[0]
        for unknown in self.unknown:
            sure = sure & (labels != unknown)
        offsets = self.in_voxels(voxel_size)
        below, above = self.margin(voxel_size)
        shape = tuple(n - b - a for n, b, a in zip(labels.shape, below, above, strict=True))

        def at(array: np.ndarray, offset: Iterable[int]) -> np.ndarray:
            return array[tuple(slice(b + o, b + o + n) for b, o, n in zip(below, offset, shape, strict=True))]

        here = (0,) * len(shape)
        own, own_sure = at(labels, here), at(sure, here)
        both = np.stack([own_sure & at(sure, offset) for offset in offsets])
        same = np.stack([own == at(labels, offset) for offset in offsets]) & (own != 0) & both
        return {self.affinities: same.astype(np.uint8), self.affinities_mask: both.astype(np.uint8)}


def _lengths(name: str, offsets: Iterable[Iterable[Length]]) -> tuple[tuple[Fraction, ...], ...]:
    """Return offsets as tuples of exact numbers."""
    offsets = tuple(offsets)
    if not all(isinstance(offset, Iterable) and not isinstance(offset, str) for offset in offsets):
        raise ArgumentError(f"{name}={offsets} have to be offsets, each with one length per axis, as in [(1, 0, 0)]")
    given = tuple(tuple(offset) for offset in offsets)
    axes = {len(offset) for offset in given}
    if len(axes) != 1 or axes == {0}:
        raise ArgumentError(f"{name}={given} have to be one or more, all with the same number of axes")
    if not all(map(any, given)):
        raise ArgumentError(
            f"{name}={given}: an offset of 0 along every axis pairs each voxel with itself; leave it out"
        )
    return tuple(tuple(exact(length) for length in offset) for offset in given)


def _whole(offsets: tuple[tuple[Fraction, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Return offsets in voxels as integers."""
    if any(length.denominator != 1 for offset in offsets for length in offset):
        raise ArgumentError(f"offsets={[_text(offset) for offset in offsets]} have to be whole numbers of voxels")
    return tuple(tuple(int(length) for length in offset) for offset in offsets)


def _text(offset: Iterable[Fraction]) -> str:
    """Return an offset for messages."""
    return f"({', '.join(format(float(length), '.12g') for length in offset)})"
