"""A node that provides weights which balance the voxels of a class against the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from gunpowder import ArrayKey, Coordinate

from scalenet_gp.errors import ArgumentError, DataError
from scalenet_gp.losses import balanced_class_weights
from scalenet_gp.nodes.targets.derived_array import DerivedArray

__all__ = ["ClassWeights"]


@final
class ClassWeights(DerivedArray):
    """Provide the weight of every voxel in the loss, so that present and absent voxels of a class count equally.

    The weights are float32 in the shape of the target, every channel by itself. With f the share of present voxels
    among the known ones, a present voxel weighs ``1 / (2 f)``, an absent one ``1 / (2 (1 - f))`` and an unknown one 0.
    If f is that of the requested voxels, both sides weigh the same, and a known voxel weighs 1 on average. Shares are
    clipped to [least, 1 - least], so no weight exceeds ``1 / (2 least)``. If this changes a share, the rarer side
    weighs less than the other, and the mean is below 1.

    With ``shares``, a voxel weighs the same in every request. Without, its weight depends on the requested ROI: tiles
    do not agree with the whole.

    Args:
        target: above 0 where the class is present, 0 where it is absent.
        weights: the array to provide. It is the ``mask`` of a :class:`Supervision`: losses weight voxels by its values.
        mask: 1 where the target is known, in its shape or with one channel for all. None: it is known everywhere.
        shares: f of every channel, counted over a whole data set. By default those of the requested ROI.
        least: the smallest share; smaller ones count as this one.

    Raises:
        ArgumentError: ``least`` is not in (0, 0.5], or a share not in [0, 1].
        DataError: for a batch: not one share per channel.
        PipelineError: as :class:`DerivedArray`.

    Example:
        >>> import gunpowder as gp
        >>> ClassWeights(gp.ArrayKey("TARGET"), gp.ArrayKey("WEIGHTS"), shares=[0.02, 0.3]).shares
        (0.02, 0.3)
    """

    def __init__(
        self,
        target: ArrayKey,
        weights: ArrayKey,
        *,
        mask: ArrayKey | None = None,
        shares: Sequence[float] | None = None,
        least: float = 0.05,
    ) -> None:
        super().__init__(target, mask, (weights, np.float32))
        if not 0 < least <= 0.5:
            raise ArgumentError(f"least={least} has to lie above 0 and at most at 0.5")
        if shares is not None and not all(0 <= share <= 1 for share in shares):
            raise ArgumentError(f"shares={tuple(shares)} have to lie between 0 and 1")
        self.weights, self.least = weights, least
        self.shares = None if shares is None else tuple(shares)

    def margin(self, voxel_size: Coordinate) -> tuple[Coordinate, Coordinate]:
        """Return no margin: a weight depends on its own voxel."""
        nothing = Coordinate((0,) * len(voxel_size))
        return nothing, nothing

    def derive(
        self, values: np.ndarray, known: np.ndarray, begin: Coordinate, voxel_size: Coordinate
    ) -> Mapping[ArrayKey | None, np.ndarray]:
        """Return the weights of every channel."""
        if self.shares is not None and len(self.shares) != len(values):
            raise DataError(
                f"{self.name()}: {self.source} has {len(values)} channels, but {len(self.shares)} shares are given"
            )
        known = np.broadcast_to(known, values.shape)
        present = (values > 0) & known
        weights = np.zeros(values.shape, dtype=np.float32)
        for channel, (weight, here, there) in enumerate(zip(weights, present, known, strict=True)):
            if self.shares is None:
                share = int(np.count_nonzero(here)) / max(int(np.count_nonzero(there)), 1)
            else:
                share = self.shares[channel]
            share = min(max(share, self.least), 1 - self.least)
            weight[there], weight[here] = balanced_class_weights((1 - share, share), self.least).tolist()
        return {self.weights: weights}
