"""Losses of predicted distances."""

from __future__ import annotations

from math import inf
from typing import ClassVar, final

from torch import Tensor
from torch.nn import functional

from scalenet_gp.errors import ArgumentError
from scalenet_gp.losses.masked_loss import Annotated, MaskedLoss

__all__ = ["DistanceRegression"]


@final
class DistanceRegression(MaskedLoss):
    """The mean smooth L1 loss, or the mean squared error, of the annotated voxels, over all channels together.

    For distances, as :class:`scalenet_gp.nodes.BoundaryDistance` makes them: prediction and target may be any finite
    number, so the network ends in no Sigmoid.

    Args:
        beta: where the loss of a difference d turns from d² / (2 beta) into d - beta / 2 (smooth L1: Girshick 2015,
            arXiv 1504.08083), in the unit of the distances; 0 makes it the absolute error. With None it is d².

    Raises:
        ValueError: ``beta`` is negative or infinite.
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
