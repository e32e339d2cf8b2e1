"""Layers of torch by dimension and by name, from which the nodes are built."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.kernels import GroupNorm, channels_last, most_groups, recast_convolutions
from scalenet_gp.layers.calibrated_group_norm import CalibratedGroupNorm
from scalenet_gp.layers.checks import is_whole

__all__ = [
    "EfficientChannelAttention",
    "SqueezeExcitation",
    "activation_layer",
    "convolution",
    "is_local",
    "normalization_layer",
    "separable_convolution",
]

_UNFIT_ACTIVATIONS = {
    "GLU": "it halves the channels",
    "MultiheadAttention": "it needs three tensors",
    "Softmax2d": "it has two axes only; 'Softmax' is the same for two and three",
    "Threshold": "it has no default threshold; 'ReLU' or 'Hardshrink' have",
}


def convolution(
    in_channels: int, out_channels: int, kernel_size: Sequence[int], *, transposed: bool = False, **options: Any
) -> nn.Module:
    """Build a torch convolution with as many axes as ``kernel_size``; weights as in He et al. 2015, biases zero.

    These weights keep the variance behind an activation such as ReLU. A voxel of a transposed convolution is a sum over
    the kernel's elements that fall on it: one in as many as the stride has voxels.

    Raises:
        ArgumentError: the kernel does not have two or three axes of one voxel or more, or there is no channel on one
            side.
    """
    kernel = tuple(kernel_size)
    kinds = {2: (nn.Conv2d, nn.ConvTranspose2d), 3: (nn.Conv3d, nn.ConvTranspose3d)}
    if len(kernel) not in kinds or not all(map(is_whole, kernel)):
        raise ArgumentError(f"a kernel has 2 or 3 axes of at least one voxel, not {kernel}")
    if not (is_whole(in_channels) and is_whole(out_channels)):
        raise ArgumentError(
            f"a convolution has one channel or more on either side, not {in_channels!r} and {out_channels!r}"
        )
    if options.get("padding") == "valid":
        options.pop("padding_mode", None)  # there is nothing to pad, but torch would copy the input to pad it
    kind = None if transposed else recast_convolutions(in_channels, kernel, **options)
    layer: Any = (kind or kinds[len(kernel)][transposed])(in_channels, out_channels, kernel, **options)
    summed = in_channels // layer.groups * math.prod(kernel) / (math.prod(layer.stride) if transposed else 1)
    nn.init.normal_(layer.weight, std=math.sqrt(2) / math.sqrt(summed))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def separable_convolution(
    in_channels: int, out_channels: int, kernel_size: Sequence[int], **options: Any
) -> nn.Sequential:
    """Build a depthwise convolution and a 1³ one across the channels (Chollet 2017, arXiv 1610.02357).

    The first has no bias, as the bias of the second serves both. ``options`` are those of the first.

    Raises:
        ArgumentError: the kernel does not have two or three axes of one voxel or more.
    """
    kernel = tuple(kernel_size)
    return nn.Sequential(
        convolution(in_channels, in_channels, kernel, groups=in_channels, bias=False, **options),
        convolution(in_channels, out_channels, (1,) * len(kernel)),
    )


def activation_name(layer: nn.Module) -> Literal["Sigmoid", "Softmax"] | None:
    """Return the name of an activation that makes probabilities of logits; None for any other layer."""
    if isinstance(layer, nn.Sigmoid):
        return "Sigmoid"
    across = isinstance(layer, _AcrossChannels) and isinstance(layer.activation, nn.Softmax)
    return "Softmax" if across else None


def activation_layer(name: str | None) -> nn.Module:
    """Build the activation of :mod:`torch.nn` with this name; ``None`` is the identity.

    If torch can, it works in place, which saves memory and time. So it has to follow an operation of its node whose
    result nothing else reads, and whose gradient does not need it: a convolution, a sum, a product or a normalization,
    but not an input of the node. Activations that compare values compare the channels.

    Raises:
        ArgumentError: torch has no activation of that name, or it does not fit here.

    Example:
        >>> activation_layer("ReLU")
        ReLU(inplace=True)
    """
    if name in (None, "Identity"):
        return nn.Identity()
    if name not in nn.modules.activation.__all__:
        raise ArgumentError(
            f"torch.nn has no activation {name!r}; 'ReLU', 'LeakyReLU', 'GELU', 'Sigmoid' are some it has"
        )
    if name in _UNFIT_ACTIVATIONS:
        raise ArgumentError(f"torch.nn's {name!r} cannot be the activation of a node: {_UNFIT_ACTIVATIONS[name]}")
    kind: type[nn.Module] = getattr(nn.modules.activation, name)
    options = inspect.signature(kind).parameters
    if "dim" in options:
        return _AcrossChannels(kind(dim=-1))
    return kind(inplace=True) if "inplace" in options else kind()


def normalization_layer(name: str, channels: int, dims: int) -> nn.Module:
    """Build a normalization: batch, instance, calibrated group, group or layer.

    ``name`` contains one of ``"batch"``, ``"instance"``, ``"calibrated_group"``, ``"group"`` and ``"layer"``, in any
    case, as in LeibNetz; the first of them counts. Group normalization has the most groups, up to eight, that divide
    the channels and leave at least two in each. Layer normalization is that of the channels of each voxel by itself.

    Raises:
        ArgumentError: ``name`` does not contain one of them, or layer normalization has one channel, of which it would
            leave nothing.
    """
    if "batch" in name.lower():
        return {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](channels)
    if "instance" in name.lower():
        return {2: _InstanceNorm2d, 3: _InstanceNorm3d}[dims](channels)
    if "calibrated_group" in name.lower():
        return CalibratedGroupNorm(channels)
    if "group" in name.lower():
        return GroupNorm(most_groups(channels), channels)
    if "layer" in name.lower():
        if channels < 2:
            raise ArgumentError("layer normalization is across channels, so it needs two or more of them")
        return _ChannelNorm(channels)
    raise ArgumentError(f"norm_layer is one of 'batch', 'instance', 'group', 'calibrated_group', 'layer', not {name!r}")


def is_local(layer: nn.Module) -> bool:
    """Return True if a normalization, in evaluation mode, treats a voxel alike whatever else is in the tensor."""
    return isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm | CalibratedGroupNorm | _ChannelNorm)


class _AcrossChannels(nn.Module):
    """An activation across the channels, applied along the last axis, which keeps the memory format channels last.

    (B, C, Z, Y, X) to the same shape.
    """

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x.movedim(1, -1)).movedim(-1, 1)


class _ChannelNorm(nn.LayerNorm):
    """Layer normalization of the channels of each voxel (Ba et al. 2016, arXiv 1607.06450).

    (B, C, Z, Y, X) to the same shape, in the memory format channels last.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class _InstanceNorm2d(nn.InstanceNorm2d):
    """Instance normalization that keeps the memory format channels last, which torch's own changes."""

    def forward(self, x: Tensor) -> Tensor:
        return channels_last(super().forward(x))


class _InstanceNorm3d(nn.InstanceNorm3d):
    """The same for three axes."""

    def forward(self, x: Tensor) -> Tensor:
        return channels_last(super().forward(x))


class SqueezeExcitation(nn.Module):
    """Weights each channel by the mean of all channels over the tensor (Hu et al. 2018, arXiv 1709.01507).

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


class EfficientChannelAttention(nn.Module):
    """Weights each channel by the mean of it and of its neighbors over the tensor (Wang et al. 2020).

    ECA-Net, arXiv 1910.03151: (B, C, Z, Y, X) to the same shape. The mean over all voxels goes through one convolution
    along the channels and a sigmoid, and is multiplied onto the input. The kernel is the paper's: the whole part of
    (log₂ C + 1) / 2, made odd upwards.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = int((math.log2(channels) + 1) / 2)
        kernel = size if size % 2 else size + 1
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(2).mean(dim=2)
        weights = torch.sigmoid(self.conv(mean[:, None])[:, 0])
        return x * weights[(..., *(None,) * (x.dim() - 2))]
