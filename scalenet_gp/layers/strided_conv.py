"""Downsampling with weights."""

from __future__ import annotations

from collections.abc import Sequence

from funlib.geometry import Coordinate
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.layers import activation_layer, convolution, is_local, normalization_layer
from scalenet_gp.layers.resampling import Downsampling

__all__ = ["StridedConv"]


class StridedConv(Downsampling):
    """A valid convolution with stride ``factor``, its kernel centred on each voxel of the coarser lattice.

    (B, C, Z, Y, X) to (B, C', Z/f, Y/f, X/f); the kernel reaches over the block of ``factor`` voxels by
    (kernel - factor) / 2 voxels on either side.

    Args:
        input_keys: the one tensor read, with ``input_nc`` channels.
        output_keys: the one tensor made, with ``output_nc`` channels.
        input_nc: channels of the input.
        output_nc: channels of the output.
        factor: voxels per coarse voxel and axis.
        kernel_size: voxels of the kernel; ``factor`` unless given.
        activation: name of an activation in :mod:`torch.nn`, or none.
        norm_layer: ``"batch"``, ``"instance"``, ``"group"`` or none, after the convolution as in LeibNetz.
        identifier: name in the graph.

    Raises:
        ValueError: a kernel that cannot be centred on the coarse voxels: it would shift the output by half a voxel.
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
