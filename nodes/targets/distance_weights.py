"""Weights of voxels that grow where two instances come near."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, final

import numpy as np
from gunpowder import ArrayKey, Coordinate
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError, DataError
from scalenet_gp.geometry import Length, World, exact
from scalenet_gp.losses import balanced_class_weights
from scalenet_gp.nodes.targets.derived_array import DerivedArray

__all__ = ["DistanceWeights", "nearest_two"]

_REACH = 4
"""Standard deviations beyond which an instance does not count; there the summand is 0.0003 ``w0`` or less."""


@final
class DistanceWeights(DerivedArray):
    """Provide the weight of every voxel in the loss: more in narrow gaps between instances.

    The weight is ``c + w0 exp(-(d1 + d2)² / (2 sigma²))``, with the distances d1 and d2 to the nearest and to the
    second nearest instance: Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image
    segmentation" (MICCAI 2015), where w0 is 10 and sigma 5 pixels. A distance is that between the centres of voxels, 0
    in an instance. An instance further than 4 ``sigma`` does not count: the weight of a voxel without two nearer ones
    is c. The node asks for labels that much further on every side, so tiles agree with the whole.

    The balance c is 1, or with ``share`` that of instances against the background: ``1 / (2 share)`` in an instance,
    ``1 / (2 (1 - share))`` in the background. :class:`.ClassWeights` balances classes.

    The weights are float32, of one channel, 0 where the labels are unknown. Unknown voxels belong to no instance.

    Args:
        labels: the instances, one channel; 0 is the background.
        weights: the array to provide. It is the ``mask`` of a :class:`Supervision`: losses weight voxels by its values.
        sigma: nm; the distances within which gaps weigh more.
        world: the world that the pipeline counts in.
        w0: the largest weight that is added.
        share: of the voxels in instances, counted over a whole data set.
        mask: 1 where the labels are known. None: they are known everywhere.
        unknown: the label of voxels that nobody has annotated, or several, if there are any.

    Raises:
        ArgumentError: ``sigma`` is not positive, ``w0`` is negative, or ``share`` is not between 0 and 1.
        PipelineError: as :class:`DerivedArray`.
        DataError: for a batch: labels of several channels.

    Example:
        >>> import gunpowder as gp
        >>> from scalenet_gp.geometry import World
        >>> node = DistanceWeights(gp.ArrayKey("LABELS"), gp.ArrayKey("WEIGHTS"), sigma=20, world=World())
        >>> node.margin(gp.Coordinate(40, 8, 8))
        ((2, 10, 10), (2, 10, 10))
    """

    def __init__(
        self,
        labels: ArrayKey,
        weights: ArrayKey,
        sigma: Length,
        *,
        world: World,
        w0: float = 10.0,
        share: float | None = None,
        mask: ArrayKey | None = None,
        unknown: int | Collection[int] | None = None,
    ) -> None:
        super().__init__(labels, mask, (weights, np.float32))
        if exact(sigma) <= 0:
            raise ArgumentError(f"sigma={sigma} nm has to be positive")
        if not (math.isfinite(w0) and w0 >= 0):
            raise ArgumentError(f"w0={w0!r} has to be a number of at least 0")
        if share is not None and not 0 < share < 1:
            raise ArgumentError(f"share={share!r} has to lie between 0 and 1")
        self.weights, self.w0, self.share = weights, w0, share
        self.sigma = exact(sigma) / world.unit
        self.unknown = () if unknown is None else (unknown,) if isinstance(unknown, int) else tuple(unknown)

    def margin(self, voxel_size: Coordinate) -> tuple[Coordinate, Coordinate]:
        """Return how many voxels an instance counts, below and above."""
        reach = Coordinate(math.floor(_REACH * self.sigma / size) for size in voxel_size)
        return reach, reach

    def derive(
        self, values: np.ndarray, known: np.ndarray, begin: Coordinate, voxel_size: Coordinate
    ) -> Mapping[ArrayKey | None, np.ndarray]:
        """Return the weights."""
        if len(values) != 1:
            raise DataError(f"{self.name()}: the labels {self.source} have {len(values)} channels; they have to have 1")
        sure = known[0] & ~np.isin(values[0], self.unknown)
        labels = np.where(sure, values[0], values.dtype.type(0))
        sigma = float(self.sigma)
        first, second = nearest_two(labels, voxel_size, _REACH * sigma)
        weights = np.ones(labels.shape)
        if self.share is not None:
            absent, present = balanced_class_weights((1 - self.share, self.share)).tolist()
            weights = np.where(labels != 0, present, absent)
        weights += self.w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2))
        reach, _ = self.margin(voxel_size)
        inner = tuple(slice(n, length - n) for n, length in zip(reach, labels.shape, strict=True))
        return {self.weights: (weights * sure)[inner].astype(np.float32)[None]}


def nearest_two(
    labels: NDArray[Any], voxel_size: Sequence[int], maximum: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distances of every voxel to the nearest and to the second nearest instance.

    Args:
        labels: whole numbers, 0 for the background, (z, y, x) or (y, x).
        voxel_size: per axis.
        maximum: a larger distance counts as infinite.

    Example:
        >>> [along.tolist() for along in nearest_two(np.array([[1, 0, 0, 2]]), (8, 8), 20)]
        [[[0.0, 8.0, 8.0, 0.0]], [[inf, 16.0, 16.0, inf]]]
    """
    import edt  # slow to import
    from fastremap import renumber  # slow to import
    from scipy.ndimage import find_objects

    numbered = renumber(np.ascontiguousarray(labels), preserve_zero=True)[0].astype(np.uint32, copy=False)
    first, second = np.full(labels.shape, np.inf), np.full(labels.shape, np.inf)
    reach = [math.floor(maximum / size) for size in voxel_size]
    for number, place in enumerate(find_objects(numbered), start=1):
        box = tuple(
            slice(max(0, along.start - n), min(along.stop + n, length))
            for along, n, length in zip(place, reach, labels.shape, strict=True)
        )
        elsewhere = np.ascontiguousarray(numbered[box] != number).view(np.uint8)
        squared = edt.edtsq(elsewhere, anisotropy=tuple(map(float, voxel_size)), black_border=False)
        distance = np.sqrt(squared.astype(np.float64))
        distance[distance > maximum] = np.inf
        nearer = np.minimum(first[box], distance)
        second[box] = np.minimum(second[box], np.maximum(first[box], distance))
        first[box] = nearer
    return first, second
