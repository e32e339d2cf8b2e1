"""Features sampled from a distribution that the network predicts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.modules import convolution
from scalenet_gp.layers.same_lattice import SingleInput

__all__ = ["VariationalBottleneck"]


class VariationalBottleneck(SingleInput):
    """A sample of a normal distribution that is predicted in each voxel (Kingma and Welling 2014, arXiv 1312.6114).

    1³ convolutions of the input (B, ``input_nc``, Z, Y, X) make its mean and the logarithm of its variance, each
    (B, ``latent_nc``, Z, Y, X). The sample is mean + noise · exp(log variance / 2) in training, with noise from torch's
    global generator, and a copy of the mean in evaluation. :class:`scalenet_gp.losses.KullbackLeibler` keeps the
    distribution near the standard normal one.

    Args:
        input_keys: the one tensor read.
        output_keys: the sample, the mean and the logarithm of the variance.
        input_nc: channels of the input.
        latent_nc: channels of each output.
        dims: number of spatial axes.
        identifier: name in the graph.

    Raises:
        ArgumentError: there are not three output keys.

    Example:
        >>> VariationalBottleneck(["a"], ["sample", "mean", "log_variance"], 24, 8).output_channels(24)
        (8, 8, 8)
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        latent_nc: int,
        dims: int = 3,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier, input_nc=input_nc, output_ncs=[latent_nc] * 3, dims=dims)
        if len(self.output_keys) != 3:
            raise ArgumentError(
                f"{self.identifier}: it makes a sample, a mean and a logarithm of the variance, which are three names, "
                f"not {list(output_keys)}"
            )
        self.mean = convolution(input_nc, latent_nc, (1,) * dims)
        self.log_variance = convolution(input_nc, latent_nc, (1,) * dims)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (x,) = tensors
        mean, log_variance = self.mean(x), self.log_variance(x)
        sample = mean + torch.randn_like(mean) * torch.exp(log_variance / 2) if self.training else mean.clone()
        return sample, mean, log_variance
