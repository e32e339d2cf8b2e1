"""Upsampling with weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from scalenet_gp.layers.layers import activation_layer, convolution
from scalenet_gp.layers.resampling import Upsampling

__all__ = ["TransposedConv"]


class TransposedConv(Upsampling):
    """A transposed convolution whose kernel and stride are ``factor``, (B, C, Z, Y, X) to (B, C', Z·f, Y·f, X·f).

    Args:
        input_keys: the one tensor read, with ``input_nc`` channels.
        output_keys: the one tensor made, with ``output_nc`` channels.
        input_nc: channels of the input.
        output_nc: channels of the output.
        factor: voxels that one voxel becomes, per axis.
        activation: name of an activation in :mod:`torch.nn`, or none.
        identifier: name in the graph.
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        output_nc: int,
        factor: Sequence[int],
        activation: str | None = None,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, factor, (input_nc, output_nc), identifier)
        self.upsample = convolution(input_nc, output_nc, self.factor, transposed=True, stride=self.factor)
        self.activation = activation_layer(activation)

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        return self.activation(self.upsample(x))
