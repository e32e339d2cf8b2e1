"""torch layers by dimension and by name: what several node kinds are built from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["SqueezeExcitation", "activation_layer", "convolution", "normalisation"]


def convolution(
    in_channels: int, out_channels: int, kernel_size: Sequence[int], *, transposed: bool = False, **options: object
) -> nn.Module:
    """A torch convolution with as many axes as ``kernel_size``; weights drawn as in He et al. 2015, biases zero.

    Raises:
        ValueError: the kernel has not two or three axes, or an axis without a voxel.
    """
    kernel = tuple(kernel_size)
    kinds = {2: (nn.Conv2d, nn.ConvTranspose2d), 3: (nn.Conv3d, nn.ConvTranspose3d)}
    if len(kernel) not in kinds or min(kernel) < 1:
        raise ValueError(f"a kernel has 2 or 3 axes of at least one voxel, not {kernel}")
    layer = kinds[len(kernel)][transposed](in_channels, out_channels, kernel, **options)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def activation_layer(name: str | None) -> nn.Module:
    """The activation of :mod:`torch.nn` with this name; ``None`` is the identity.

    Raises:
        ValueError: torch has no activation of that name.
    """
    if name in (None, "Identity"):
        return nn.Identity()
    if name not in nn.modules.activation.__all__:
        raise ValueError(f"torch.nn has no activation {name!r}; 'ReLU', 'LeakyReLU', 'GELU', 'Sigmoid' are some it has")
    layer: nn.Module = getattr(nn.modules.activation, name)()
    return layer


def normalisation(name: str, channels: int, dims: int) -> nn.Module:
    """Batch, instance or group normalisation: the first that ``name`` contains, in any case, as in LeibNetz.

    Group normalisation takes the most groups, up to eight, that divide the channels (Wu and He 2018 found 4 to 32 to
    serve alike).

    Raises:
        ValueError: ``name`` contains none of the three.
    """
    if "batch" in name.lower():
        return {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](channels)
    if "instance" in name.lower():
        return {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims](channels)
    if "group" in name.lower():
        return nn.GroupNorm(math.gcd(channels, 8), channels)
    raise ValueError(f"norm_layer {name!r} is none of 'batch', 'instance', 'group'")


class SqueezeExcitation(nn.Module):
    """Weighs each channel by what the whole tensor holds (Hu et al. 2018, arXiv 1709.01507).

    (B, C, Z, Y, X) to the same shape. The mean over all voxels goes through two 1³ convolutions, ``squeeze_channels``
    between them, and a sigmoid, and is multiplied onto the input.
    """

    def __init__(self, channels: int, squeeze_channels: int, dims: int) -> None:
        super().__init__()
        self.dims = dims
        self.fc1 = convolution(channels, squeeze_channels, (1,) * dims)
        self.fc2 = convolution(squeeze_channels, channels, (1,) * dims)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=tuple(range(-self.dims, 0)), keepdim=True)
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(mean))))
