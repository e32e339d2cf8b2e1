"""Convolutions that torch computes slowly, recast as the same sums in a shape that it computes fast.

Their weights are those of the layers that they replace.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["FoldedConv2d", "FoldedConv3d", "PointwiseConv2d", "PointwiseConv3d", "recast_convolutions"]

_FEW_CHANNELS = 8


def recast_convolutions(in_channels: int, kernel_size: Sequence[int], **options: object) -> type[nn.Module] | None:
    """Return the class of this file for a convolution with these arguments, or ``None``.

    Args:
        in_channels: channels of its input.
        kernel_size: its kernel, on two or three axes.
        options: other arguments of :class:`torch.nn.Conv3d`. Any but a bias rules the classes of this file out.
    """
    ordinary = {"padding": (0, "valid"), "groups": (1,), "stride": (1,), "dilation": (1, (1,) * len(kernel_size))}
    if any(options.get(name, values[0]) not in values for name, values in ordinary.items()):
        return None
    three = len(kernel_size) == 3
    if set(kernel_size) == {1}:
        return PointwiseConv3d if three else PointwiseConv2d
    if kernel_size[-1] > 1 and in_channels * kernel_size[-1] <= _FEW_CHANNELS:
        return FoldedConv3d if three else FoldedConv2d
    return None


class _Pointwise:
    """A 1³ convolution as a product of matrices: one row per voxel.

    On one thread, torch computes a 1³ convolution without its fast libraries: 36 to 12 channels took eight times as
    long, and its gradients five times.
    """

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


class PointwiseConv2d(_Pointwise, nn.Conv2d):
    """A 1² convolution of (B, C, Y, X), computed as a product of matrices."""


class PointwiseConv3d(_Pointwise, nn.Conv3d):
    """A 1³ convolution of (B, C, Z, Y, X), computed as a product of matrices."""


class _Folded:
    """Takes the last axis of the kernel for channels.

    On a processor, torch computes convolutions of one channel without its fast library: of a 140³ crop, 12 channels
    took three times as long, and the gradient of the kernel six times.
    """

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        columns = x.movedim(1, -1).unfold(-2, self.weight.shape[-1], 1).flatten(-2).contiguous().movedim(-1, 1)
        kernel = self.weight.movedim(-1, 2).flatten(1, 2).unsqueeze(-1).contiguous()
        convolve = nn.functional.conv2d if x.dim() == 4 else nn.functional.conv3d
        return convolve(columns, kernel, self.bias)


class FoldedConv2d(_Folded, nn.Conv2d):
    """A valid convolution of (B, C, Y, X) with few channels, its kernel's last axis taken for channels."""


class FoldedConv3d(_Folded, nn.Conv3d):
    """A valid convolution of (B, C, Z, Y, X) with few channels, its kernel's last axis taken for channels."""
