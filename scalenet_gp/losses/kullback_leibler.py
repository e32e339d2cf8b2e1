"""The loss of a distribution that a network predicts."""

from __future__ import annotations

from functools import reduce
from typing import final

import torch
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError

__all__ = ["KullbackLeibler"]


@final
class KullbackLeibler(nn.Module):
    """The Kullback-Leibler divergence of normal distributions from others, or from N(0, 1).

    It is called with the mean and the logarithm of the variance, each (B, C, Z, Y, X), and, unless the other
    distribution is N(0, 1), with those of the other. The divergence, in nats, is summed over the channels of a voxel
    and averaged over all voxels of the batch: Kingma and Welling 2014 (arXiv 1312.6114) for N(0, 1), Kohl et al. 2018
    (arXiv 1806.05034) for a prior that is learned. It is computed in float32, also under autocast, and in float64 if
    one of the tensors is float64.

    Example:
        >>> zeros = torch.zeros(1, 2, 4, 4)
        >>> KullbackLeibler()(zeros, zeros).item()
        0.0
        >>> KullbackLeibler()(zeros, zeros, zeros + 1, zeros).item()
        1.0
    """

    def forward(
        self,
        mean: Tensor,
        log_variance: Tensor,
        prior_mean: Tensor | None = None,
        prior_log_variance: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar.

        Raises:
            ArgumentError: the tensors differ in shape, or one of the two of the prior is missing.
        """
        prior = [tensor for tensor in (prior_mean, prior_log_variance) if tensor is not None]
        given = [mean, log_variance, *prior]
        if len(prior) == 1 or len({tensor.shape for tensor in given}) > 1:
            raise ArgumentError(
                "mean and logarithm of the variance have to have one shape (B, C, Z, Y, X), and so have both of a "
                f"prior; here they are {', '.join(str(tuple(tensor.shape)) for tensor in given)}"
            )
        dtype = reduce(torch.promote_types, (tensor.dtype for tensor in given), torch.float32)
        mean, log_variance, *prior = (tensor.to(dtype) for tensor in given)
        if prior:
            # the same of (x - prior mean) / prior deviation
            mean, log_variance = (mean - prior[0]) * (-prior[1] / 2).exp(), log_variance - prior[1]
        return (mean**2 + log_variance.expm1() - log_variance).sum(dim=1).mean() / 2
