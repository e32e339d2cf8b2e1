"""Nodes that make voxels coarser: by pooling, or by a strided convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from funlib.geometry import Coordinate
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.modules import activation_layer, convolution, is_local, normalization_layer
from scalenet_gp.layers.resampling import Downsampling

__all__ = ["Pool", "StridedConv"]


class Pool(Downsampling):
    """The maximum or mean over blocks of ``factor`` voxels, (B, C, Z, Y, X) to (B, C, Z/f, Y/f, X/f).

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        factor: voxels per block and axis.
        mode: ``"max"`` or ``"mean"``.
        identifier: name in the graph.

    Raises:
        ArgumentError: the factor does not have 2 or 3 whole numbers from 1 up, or there is no such mode.

    Example:
        >>> from scalenet_gp import TensorSpec
        >>> print(*Pool(["raw"], ["half"], (1, 2, 2), "mean").output_specs(TensorSpec((40, 4, 4), 1)))
        1 channels of 40 × 8 × 8 nm
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        factor: Sequence[int],
        mode: Literal["max", "mean"] = "max",
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, factor, None, identifier)
        kinds = {"max": (nn.MaxPool2d, nn.MaxPool3d), "mean": (nn.AvgPool2d, _MeanPool3d)}
        if mode not in kinds:  # a derived class may pass anything
            raise ArgumentError(f"{self.identifier}: mode is one of {sorted(kinds)}, not {mode!r}")
        self.pool: nn.Module = kinds[mode][len(self.factor) - 2](self.factor)

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        return self.pool(x)


class StridedConv(Downsampling):
    """A valid convolution with stride ``factor``, its kernel centered on each voxel of the coarser lattice.

    (B, C, Z, Y, X) to (B, C', Z/f, Y/f, X/f). The kernel reaches beyond the block of ``factor`` voxels by
    (kernel - factor) / 2 voxels on either side.

    Args:
        input_keys: the one tensor read, with ``input_nc`` channels.
        output_keys: the one tensor made, with ``output_nc`` channels.
        input_nc: channels of the input.
        output_nc: channels of the output.
        factor: voxels per coarse voxel and axis.
        kernel_size: voxels of the kernel; ``factor`` unless given.
        activation: name of an activation in :mod:`torch.nn`, or ``None``.
        norm_layer: ``"batch"``, ``"instance"``, ``"group"``, ``"calibrated_group"``, ``"layer"`` or ``None``, after
            the convolution as in LeibNetz.
        identifier: name in the graph.

    Raises:
        ArgumentError: the kernel cannot be centered on the coarse voxels: it would shift the output by half a voxel.

    Example:
        >>> StridedConv(["a"], ["b"], 4, 8, (2, 2, 2), kernel_size=(4, 4, 4)).margin
        (1, 1, 1)
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        output_nc: int,
        factor: Sequence[int],
        kernel_size: Sequence[int] | None = None,
        activation: str | None = "ReLU",
        norm_layer: str | None = None,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, factor, (input_nc, output_nc), identifier)
        kernel = self.factor if kernel_size is None else tuple(kernel_size)
        if len(kernel) != len(self.factor) or any((k - f) % 2 for k, f in zip(kernel, self.factor, strict=True)):
            raise ArgumentError(
                f"{self.identifier}: kernel {kernel} and factor {self.factor} have to differ by an even number of "
                "voxels on every axis, or the output would be shifted by half a voxel"
            )
        self.margin = Coordinate((k - f) // 2 for k, f in zip(kernel, self.factor, strict=True))
        self.downsample = convolution(input_nc, output_nc, kernel, stride=self.factor)
        self.normalisation: nn.Module | None = None
        if norm_layer is not None:
            self.normalisation = normalization_layer(norm_layer, output_nc, len(kernel))
        self.activation = activation_layer(activation)

    @property
    def tileable(self) -> bool:
        return self.normalisation is None or is_local(self.normalisation)

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        y = self.downsample(x)
        if self.normalisation is not None:
            y = self.normalisation(y)
        return self.activation(y)


class _MeanPool3d(nn.Module):
    """The mean over blocks, (B, C, Z, Y, X) to (B, C, Z/f, Y/f, X/f): the mean over planes and then across them.

    :class:`torch.nn.AvgPool3d` returns another memory format than channels last, lacks bfloat16 on a processor, and
    takes 3 to 10 times as long.
    """

    def __init__(self, factor: tuple[int, ...]) -> None:
        super().__init__()
        self.across, *self.planar = factor

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, depth, height, width = x.shape
        planes = x.movedim(1, -1).reshape(batch * depth, height, width, channels).movedim(-1, 1)
        pooled = avg_pool2d(planes, self.planar)
        lines = pooled.movedim(1, -1).reshape(batch, depth, -1, channels).movedim(-1, 1)
        return avg_pool2d(lines, (self.across, 1)).unflatten(3, pooled.shape[2:])
