"""Local shape descriptors of instances, as targets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import final

import numpy as np
from gunpowder import ArrayKey, Coordinate

from scalenet_gp.errors import ArgumentError, DataError, PipelineError
from scalenet_gp.geometry import Length, World, exact
from scalenet_gp.nodes.targets.derived_array import DerivedArray
from scalenet_gp.nodes.targets.shape_descriptors import descriptor_radius, local_shape_descriptors

__all__ = ["LocalShapeDescriptors"]


@final
class LocalShapeDescriptors(DerivedArray):
    """Provide descriptors of the shape of the instance about every voxel: its mean offset, its covariance, its size.

    The descriptors are float32, 10 channels of three spatial axes or 6 of two, from 0 to 1;
    :func:`local_shape_descriptors` defines them. The node asks for labels 3 standard deviations further on every side,
    so that descriptors at the edge of a request are exact, and tiles agree with the whole to the bit. The mask has the
    same shape: 1 in instances, 0 in the background and where nobody has annotated; the descriptors are 0 there.

    Unknown voxels count as outside of every instance. So an instance that is cut off by the end of its annotation is
    described as far as it is annotated.

    The node goes downstream of the nodes that deform the labels.

    Args:
        labels: the instances, one channel; at coarse voxel sizes from ``MultiscaleSource(labels=True)``.
        descriptors: the array to provide.
        sigma: nm; the standard deviation of the Gaussian about each voxel, for all axes or for each.
        world: the world that the pipeline counts in.
        mask: 1 where the labels are known. None: they are known everywhere.
        descriptors_mask: the key of the mask of the descriptors, uint8.
        unknown: the label of voxels that nobody has annotated, or several, if there are any.
        downsample: look at every so manyth voxel along each axis only, which takes less time. An instance that has none
            of these voxels nearby is masked.

    Raises:
        ArgumentError: ``sigma`` or ``downsample`` are not positive.
        PipelineError: when the pipeline is built: ``sigma`` of other axes than the labels; also as
            :class:`DerivedArray`.
        DataError: for a batch: labels of several channels.

    Example:
        >>> import gunpowder as gp
        >>> from scalenet_gp.geometry import World
        >>> labels, descriptors = gp.ArrayKey("LABELS"), gp.ArrayKey("DESCRIPTORS")
        >>> node = LocalShapeDescriptors(labels, descriptors, sigma=80, world=World())
        >>> node.margin(gp.Coordinate(40, 8, 8))
        ((6, 30, 30), (6, 30, 30))
    """

    def __init__(
        self,
        labels: ArrayKey,
        descriptors: ArrayKey,
        sigma: Length | Iterable[Length],
        *,
        world: World,
        mask: ArrayKey | None = None,
        descriptors_mask: ArrayKey | None = None,
        unknown: int | Collection[int] | None = None,
        downsample: int = 1,
    ) -> None:
        super().__init__(labels, mask, (descriptors, np.float32), (descriptors_mask, np.uint8))
        self.descriptors, self.descriptors_mask = descriptors, descriptors_mask
        given = tuple(sigma) if isinstance(sigma, Iterable) and not isinstance(sigma, str) else (sigma,)
        self.sigma = tuple(exact(length) for length in given)
        if not self.sigma or min(self.sigma) <= 0:
            raise ArgumentError(f"sigma={sigma} nm has to be positive, one length for all axes or one for each")
        if downsample < 1 or downsample % 1 != 0:
            raise ArgumentError(f"downsample={downsample} has to be a whole number of voxels, 1 or more")
        self.downsample = int(downsample)
        self.unknown = () if unknown is None else (unknown,) if isinstance(unknown, int) else tuple(unknown)
        self._world = world

    def margin(self, voxel_size: Coordinate) -> tuple[Coordinate, Coordinate]:
        """Return how many voxels the Gaussian reaches, below and above."""
        reach = descriptor_radius(*self._lengths(voxel_size), self.downsample)
        # below, also to the voxel that is looked at for its neighbors above
        below = Coordinate(n * self.downsample + self.downsample - 1 for n in reach)
        return below, Coordinate(n * self.downsample for n in reach)

    def derive(
        self, values: np.ndarray, known: np.ndarray, begin: Coordinate, voxel_size: Coordinate
    ) -> Mapping[ArrayKey | None, np.ndarray]:
        """Return descriptors and mask."""
        if len(values) != 1:
            raise DataError(f"{self.name()}: the labels {self.source} have {len(values)} channels; they have to have 1")
        labels, sure = values[0], known[0]
        for unknown in self.unknown:
            sure = sure & (labels != unknown)
        labels = np.where(sure, labels, 0)
        below, above = self.margin(voxel_size)
        # the voxels that are looked at are the same in every request
        skipped = [-first % self.downsample for first in begin]
        inner = tuple(
            slice(b - skip, n - a - skip) for n, b, a, skip in zip(labels.shape, below, above, skipped, strict=True)
        )
        labels = labels[tuple(slice(skip, None) for skip in skipped)]
        descriptors, described = local_shape_descriptors(labels, *self._lengths(voxel_size), inner, self.downsample)
        mask = np.broadcast_to(described.view(np.uint8), descriptors.shape).copy()
        return {self.descriptors: descriptors, self.descriptors_mask: mask}

    def _lengths(self, voxel_size: Coordinate) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the voxel size and sigma per axis, nm."""
        sizes = self._world.size_in_nm(voxel_size)
        sigma = self.sigma * len(sizes) if len(self.sigma) == 1 else self.sigma
        if len(sigma) != len(sizes):
            raise PipelineError(f"{self.name()}: sigma has {len(sigma)} axes, {self.source} has {len(sizes)}")
        return tuple(map(float, sizes)), tuple(map(float, sigma))
