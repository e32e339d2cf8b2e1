"""The head that makes outputs of features and of samples of a distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.kernels import channels_last
from scalenet_gp.layers.checks import check_whole
from scalenet_gp.layers.modules import activation_layer, activation_name, convolution
from scalenet_gp.layers.same_lattice import SameLattice

__all__ = ["LatentHead"]


class LatentHead(SameLattice):
    """1³ convolutions of features and of a sample of a normal distribution (Kohl et al. 2018, arXiv 1806.05034).

    Reads features (B, ``input_nc``, Z, Y, X), and mean and logarithm of the variance of the distribution, each
    (B, ``latent_nc``, Z, Y, X). A sample is mean + noise · exp(log variance / 2) with one noise of ``latent_nc``
    numbers for all voxels. So samples of neighboring tiles fit together, and tiles equal the whole.

    With ``samples`` of 0 it makes one output (B, ``output_nc``, Z, Y, X) of one sample. In training, its noise comes
    from torch's global generator, another for each sample of the batch; in evaluation it is the first noise of
    ``seed``. Otherwise it makes the mean of the outputs of as many samples, their variance, and each of them. Their
    noise is always that of ``seed``: sample *i* is the same for any number of samples, in every block.

    Args:
        input_keys: the features, the mean, and the logarithm of the variance.
        output_keys: the one output; or mean, variance, and one for each sample.
        input_nc: channels of the features.
        latent_nc: channels of the distribution.
        output_nc: channels of every output.
        hidden_nc: channels of every convolution before the last.
        activation: name of an activation in :mod:`torch.nn`, or ``None``, after every convolution before the last.
        final_activation: the activation after the last.
        samples: number of samples whose mean and variance are made.
        seed: seed of the noise.
        weights_of: identifier of another node of this kind in the network, whose convolutions are used. By default the
            node has its own.
        dims: number of spatial axes.
        identifier: name in the graph.

    Raises:
        ArgumentError: an argument is out of its range, or there are not as many output keys; when the network is built:
            it has no such node, or one of other channels or activations.

    Example:
        >>> LatentHead(["features", "mean", "log_variance"], ["output"], 12, 6, 2).output_channels(12, 6, 6)
        (2,)
        >>> keys = ["mean", "variance", "sample_0", "sample_1"]
        >>> LatentHead(["features", "mean", "log_variance"], keys, 12, 6, 2, samples=2).noise.shape
        torch.Size([2, 6])
    """

    arity = 3
    noise: Tensor

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        latent_nc: int,
        output_nc: int,
        hidden_nc: Sequence[int] = (),
        activation: str | None = "ReLU",
        final_activation: str | None = "Sigmoid",
        samples: int = 0,
        seed: int = 0,
        weights_of: str | None = None,
        dims: int = 3,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier)
        try:
            check_whole(input_nc=input_nc, latent_nc=latent_nc, output_nc=output_nc)
        except ValueError as error:
            raise ArgumentError(f"{self.identifier}: {error}") from None
        if samples < 0 or seed < 0:
            raise ArgumentError(f"{self.identifier}: samples and seed are from 0 up, not {samples} and {seed}")
        if len(self.output_keys) != (samples + 2 if samples else 1):
            raise ArgumentError(
                f"{self.identifier}: with samples of {samples} it makes {samples + 2 if samples else 1} outputs, not "
                f"{list(output_keys)}"
            )
        self.dims = dims
        self.input_ncs = (input_nc, latent_nc, latent_nc)
        self.output_nc, self.samples, self.weights_of = output_nc, samples, weights_of
        self._form = input_nc, latent_nc, output_nc, tuple(hidden_nc), activation, final_activation
        point, (first, *others) = (1,) * dims, (*hidden_nc, output_nc)
        layers = [activation_layer(activation)]
        for nc, next_nc in pairwise((first, *others)):
            layers += [convolution(nc, next_nc, point), activation_layer(activation)]
        # together a convolution of features and sample; that of the features is the same for all samples
        self.of_features = convolution(input_nc, first, point)
        self.of_latent = convolution(latent_nc, first, point, bias=False)
        self.layers = nn.Sequential(*layers[:-1], activation_layer(final_activation))
        drawn = np.random.default_rng(seed).standard_normal((max(samples, 1), latent_nc))
        self.register_buffer("noise", torch.tensor(drawn, dtype=torch.get_default_dtype()))

    def share_weights(self, nodes: Mapping[str, Any]) -> None:
        if self.weights_of is None:
            return
        other = nodes.get(self.weights_of)
        if not isinstance(other, LatentHead) or other._form != self._form or other.weights_of is not None:
            raise ArgumentError(
                f"{self.identifier}: weights_of is {self.weights_of!r}, which has to be a LatentHead of the same "
                "channels and activations with weights of its own"
            )
        self.of_features, self.of_latent, self.layers = other.of_features, other.of_latent, other.layers

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        if input_channels != self.input_ncs:
            raise ArgumentError(f"it reads tensors of {self.input_ncs} channels, its inputs have {input_channels}")
        return (self.output_nc,) * len(self.output_keys)

    @property
    def output_activation(self) -> Literal["Sigmoid", "Softmax"] | None:
        return None if self.samples else activation_name(self.layers[-1])

    def forward(self, *tensors: Tensor, logits: bool = False) -> Tensor | tuple[Tensor, ...]:
        features, mean, log_variance = tensors
        features = self.of_features(features)
        deviation = torch.exp(log_variance / 2)
        axes = (1,) * (features.ndim - 2)
        noises = self.noise.to(mean).reshape(len(self.noise), 1, -1, *axes)
        if not self.samples:
            shape = (len(mean), mean.shape[1], *axes)
            noise = torch.randn(shape, dtype=mean.dtype, device=mean.device) if self.training else noises[0]
            return self._made(features, mean + noise * deviation, logits)
        made = [self._made(features, mean + noise * deviation) for noise in noises]
        together = torch.stack(made)
        return channels_last(together.mean(dim=0)), channels_last(together.var(dim=0, unbiased=False)), *made

    def _made(self, features: Tensor, latent: Tensor, logits: bool = False) -> Tensor:
        y = features + self.of_latent(latent)
        for layer in islice(self.layers, len(self.layers) - logits):
            y = layer(y)
        return channels_last(y)  # torch's softmax changes the memory format
