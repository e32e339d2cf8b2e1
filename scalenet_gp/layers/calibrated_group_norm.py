"""Group normalization that predicts with fixed statistics, so that tiles equal the whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scalenet_gp.kernels import GroupNorm, most_groups

__all__ = ["CalibratedGroupNorm"]


class CalibratedGroupNorm(GroupNorm):
    """Group normalization in training, and in evaluation the same scale and shift at every voxel.

    (B, C, Z, Y, X) to the same shape. In training each sample is normalized by its own mean and variance within each
    group of channels (Wu and He 2018, arXiv 1803.08494), so that a batch of one sample does. In evaluation the mean and
    variance of many samples take their place, as in batch normalization: ``running_mean`` and ``running_var``, one
    number per group. Training keeps running averages of them;
    :func:`~scalenet_gp.training.estimate_norm_statistics` finds better ones.

    Args:
        channels: channels of the input. There are as many groups, up to eight, as divide them and leave at least two
            channels in each.
        momentum: share of the newest batch in the running averages.

    Attributes:
        running_mean: mean per group.
        running_var: unbiased variance per group.

    Example:
        >>> layer = CalibratedGroupNorm(4).eval()
        >>> tensor = torch.rand(1, 4, 6, 6)
        >>> torch.equal(layer(tensor)[..., :3], layer(tensor[..., :3]))
        True
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__(most_groups(channels), channels)
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(self.num_groups))
        self.register_buffer("running_var", torch.ones(self.num_groups))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                mean, variance, count = self.measure(x)
                self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
                unbiased = variance * (count / max(1, count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
            return super().forward(x)
        each = self.num_channels // self.num_groups
        mean, variance = (value.repeat_interleave(each) for value in (self.running_mean, self.running_var))
        return nn.functional.batch_norm(x, mean, variance, self.weight, self.bias, training=False, eps=self.eps)

    def measure(self, x: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return the mean and the biased variance per group of all samples, and the number of values in a group."""
        grouped = x.detach().unflatten(1, (self.num_groups, -1))
        variance, mean = torch.var_mean(grouped, dim=[0, *range(2, grouped.dim())], correction=0)
        return mean, variance, x.numel() // self.num_groups
