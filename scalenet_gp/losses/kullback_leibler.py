"""The loss of a distribution that a network predicts."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError

__all__ = ["KullbackLeibler"]


@final
class KullbackLeibler(nn.Module):
    """The Kullback-Leibler divergence of normal distributions from N(0, 1) (Kingma and Welling 2014, arXiv 1312.6114).

    It is called with the mean and the logarithm of the variance, each (B, C, Z, Y, X). The divergence, in nats, is
    summed over the channels of a voxel and averaged over all voxels of the batch. It is computed in float32, also under
    autocast, and in float64 if one of the two is float64.

    Example:
        >>> zeros = torch.zeros(1, 2, 4, 4)
        >>> KullbackLeibler()(zeros, zeros).item()
        0.0
    """

    def forward(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Raises:
            ArgumentError: the two differ in shape.
        """
        if mean.shape != log_variance.shape:
            raise ArgumentError(
                "mean and logarithm of the variance have to have one shape (B, C, Z, Y, X), not "
                f"{tuple(mean.shape)} and {tuple(log_variance.shape)}"
            )
        dtype = torch.promote_types(torch.promote_types(mean.dtype, log_variance.dtype), torch.float32)
        mean, log_variance = mean.to(dtype), log_variance.to(dtype)
        return (mean**2 + log_variance.expm1() - log_variance).sum(dim=1).mean() / 2
