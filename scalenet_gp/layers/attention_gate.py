"""A gate on a skip connection, opened by a coarser tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.modules import convolution
from scalenet_gp.layers.same_lattice import SameLattice

__all__ = ["AttentionGate"]


class AttentionGate(SameLattice):
    """A skip connection times one number in (0, 1) per voxel: additive attention (Oktay et al. 2018, arXiv 1804.03999).

    With 1³ convolutions *W* of the skip connection x (B, ``input_nc``, Z, Y, X) and the gating tensor g
    (B, ``gating_nc``, Z, Y, X), the map is sigmoid(ψ(relu(W_x x + W_g g + b_g)) + b_ψ), the same for all channels; the
    output has the channels of x. Both inputs share one voxel size; upsample a coarser gating tensor first.

    Args:
        input_keys: the skip connection and the gating tensor.
        output_keys: the one tensor made.
        input_nc: channels of the skip connection.
        gating_nc: channels of the gating tensor.
        gate_nc: channels between the convolutions; half of ``input_nc`` unless given.
        dims: number of spatial axes.
        identifier: name in the graph.

    Raises:
        ArgumentError: there is no channel on one side.

    Example:
        >>> AttentionGate(["skip", "coarse"], ["gated"], 12, 24).output_channels(12, 24)
        (12,)
    """

    arity = 2

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        gating_nc: int,
        gate_nc: int | None = None,
        dims: int = 3,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier)
        if gate_nc is None:
            gate_nc = max(1, input_nc // 2)
        point = (1,) * dims
        self.dims = dims
        self.input_nc = input_nc
        self.gating_nc = gating_nc
        self.of_skip = convolution(input_nc, gate_nc, point, bias=False)
        self.of_gating = convolution(gating_nc, gate_nc, point)
        self.psi = convolution(gate_nc, 1, point)

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        if input_channels != (self.input_nc, self.gating_nc):
            skip_nc, gating_nc = input_channels
            raise ArgumentError(
                f"it gates {self.input_nc} channels by {self.gating_nc}, its inputs have {skip_nc} and {gating_nc}"
            )
        return (self.input_nc,)

    def forward(self, *tensors: Tensor) -> Tensor:
        skip, gating = tensors
        return skip * torch.sigmoid(self.psi(torch.relu(self.of_skip(skip) + self.of_gating(gating))))
