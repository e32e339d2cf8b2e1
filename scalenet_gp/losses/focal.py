"""The focal loss: a cross-entropy with less weight on voxels that are predicted well."""

from __future__ import annotations

from math import inf
from typing import final

import torch
from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.losses.masked_loss import Annotated, MaskedLoss

__all__ = ["Focal"]


@final
class Focal(MaskedLoss):
    """The mean focal loss of the annotated voxels, over all channels together (Lin et al. 2017, arXiv 1708.02002).

    Let p be the predicted probability of the true state. A voxel where the class is present has the loss
    ``-alpha (1 - p)**gamma log(p)``. A voxel where it is absent has ``1 - alpha`` instead of ``alpha``. A target
    between 0 and 1 has both, weighted. The paper divides by the number of objects; here it is the number of voxels.

    Args:
        gamma: how fast the weight falls for well-predicted voxels; 0 makes it a cross-entropy.
        alpha: weight of voxels where the class is present; 1 - alpha is that of voxels where it is absent.

    Raises:
        ArgumentError: ``gamma`` is negative or infinite, or ``alpha`` not in [0, 1].

    Example:
        >>> Focal(gamma=1)
        Focal(gamma=1, alpha=0.25)
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25) -> None:
        super().__init__()
        if not 0 <= gamma < inf:
            raise ArgumentError(f"gamma has to be from 0 up, not {gamma}")
        if not 0 <= alpha <= 1:
            raise ArgumentError(f"alpha has to lie in [0, 1], not {alpha}")
        self.gamma, self.alpha = gamma, alpha

    def compute(self, known: Annotated) -> Tensor:
        if known.logits is None:
            probabilities = known.prediction, 1 - known.prediction
            present, absent = self._surprise(*probabilities), self._surprise(*reversed(probabilities))
        else:
            logarithms = known.log_present(), known.log_absent()
            present, absent = (
                (-(self.gamma * wrong).exp() * right).masked_fill(~known.mask, 0)
                for right, wrong in (logarithms, logarithms[::-1])
            )
        return known.mean(self.alpha * known.target * present + (1 - self.alpha) * (1 - known.target) * absent)

    def _surprise(self, right: Tensor, wrong: Tensor) -> Tensor:
        # not 0: there, slopes of logarithms and roots are infinite
        tiny = torch.finfo(right.dtype).tiny
        return -wrong.clamp(min=tiny).pow(self.gamma) * right.clamp(min=tiny).log()
