"""Losses of distances: to the boundary of a target, and of predicted distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from scalenet_gp.errors import ArgumentError
from scalenet_gp.losses.masked_loss import Annotated, MaskedLoss

__all__ = ["Boundary", "DistanceRegression"]


@final
class Boundary(MaskedLoss):
    """The mean of probability times signed distance to the boundary of the target (Kervadec et al. 2019).

    arXiv 1812.07032. Distances are between voxel centers: outside of the target, that to the nearest voxel inside;
    inside, that to the nearest voxel outside, negated. So the loss of a good prediction is negative. It is meant to be
    added to a loss of overlaps, as in the paper, whose weight becomes smaller during training compared to this one.

    Every channel of every sample has its own distances. Voxels that are not annotated are neither inside nor outside.
    Distances are those to annotated voxels, also across voxels that are not. A channel of a sample without an annotated
    voxel inside, or without one outside, has no boundary and does not count.

    Args:
        voxel_size: along (Z, Y, X) or (Y, X). The loss is in its unit, so each scale needs a loss of its own.
            (1, 1, 1) is for distances in voxels.

    Raises:
        ArgumentError: ``voxel_size`` is not two or three positive numbers; when called: the prediction has another
            number of axes; also as :class:`MaskedLoss` says.

    Example:
        >>> Boundary((8, 8, 8))
        Boundary(voxel_size=(8.0, 8.0, 8.0))
    """

    def __init__(self, voxel_size: Sequence[float]) -> None:
        super().__init__()
        self.voxel_size = tuple(map(float, voxel_size))
        if len(self.voxel_size) not in (2, 3) or not all(0 < size < inf for size in self.voxel_size):
            raise ArgumentError(f"voxel_size has to be two or three positive numbers, not {self.voxel_size}")

    def compute(self, known: Annotated) -> Tensor:
        if known.prediction.ndim - 2 != len(self.voxel_size):
            raise ArgumentError(
                f"voxel_size={self.voxel_size} has {len(self.voxel_size)} axes, a prediction of shape "
                f"{tuple(known.prediction.shape)} has {known.prediction.ndim - 2}"
            )
        annotated = known.mask.cpu().numpy()
        inside = (known.target >= 0.5).cpu().numpy() & annotated
        outside = ~inside & annotated
        distances, counts = np.zeros(inside.shape, dtype=np.float32), np.zeros(inside.shape, dtype=bool)
        for at in np.ndindex(inside.shape[:2]):
            if inside[at].any() and outside[at].any():
                counts[at] = annotated[at]
                distances[at] = self._distance_to(inside[at]) - self._distance_to(outside[at])
        mask = torch.from_numpy(counts).to(known.mask.device)
        weights = None if known.weights is None else known.weights.masked_fill(~mask, 0)
        strayed = known.prediction * torch.from_numpy(distances).to(known.prediction)
        return replace(known, mask=mask, weights=weights).mean(strayed)

    def _distance_to(self, voxels: np.ndarray) -> np.ndarray:
        import edt  # slow to import

        return edt.edt((~voxels).view(np.uint8), anisotropy=self.voxel_size, black_border=False)


@final
class DistanceRegression(MaskedLoss):
    """The mean smooth L1 loss, or the mean squared error, of the annotated voxels, over all channels together.

    It is for distances, as :class:`scalenet_gp.nodes.BoundaryDistance` makes them. Prediction and target may be any
    finite number, so the network has no final activation.

    Args:
        beta: the difference d, in the unit of the distances, from which the loss is d - beta / 2 instead of
            d² / (2 beta) (smooth L1: Girshick 2015, arXiv 1504.08083). With 0 it is the absolute error, with None d².

    Raises:
        ArgumentError: ``beta`` is negative or infinite.

    Example:
        >>> DistanceRegression(beta=None)
        DistanceRegression(beta=None)
    """

    probabilities: ClassVar[bool] = False

    def __init__(self, beta: float | None = 1.0) -> None:
        super().__init__()
        if beta is not None and not 0 <= beta < inf:
            raise ArgumentError(f"beta has to be from 0 up, or None for squared errors, not {beta}")
        self.beta = beta

    def compute(self, known: Annotated) -> Tensor:
        if self.beta is None:
            return known.mean(functional.mse_loss(known.prediction, known.target, reduction="none"))
        return known.mean(functional.smooth_l1_loss(known.prediction, known.target, reduction="none", beta=self.beta))
