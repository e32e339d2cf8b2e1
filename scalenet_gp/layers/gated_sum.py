"""Join tensors by adding of each as much as a gate lets through."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scalenet_gp.layers.joining import Join
from scalenet_gp.layers.layers import convolution

__all__ = ["GatedSum"]


class GatedSum(Join):
    """The first tensor x plus each other cᵢ times its gate: x + Σᵢ sigmoid(Wᵢ [x, cᵢ]) · Pᵢ cᵢ.

    Wᵢ is a 1³ convolution of both tensors, so there is a gate for every voxel and channel; Pᵢ is the projection to the
    channels of x, where it takes one. Gates as in Srivastava et al. 2015 (arXiv 1505.00387), except that x flows on as
    it is. Arguments and errors: see :class:`~scalenet_gp.layers.joining.Join`.
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_ncs: Sequence[int],
        dims: int = 3,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, input_ncs, dims, identifier)
        first, *others = self.input_ncs
        self.gates = nn.ModuleList(convolution(first + nc, first, (1,) * dims) for nc in others)

    def forward(self, *tensors: Tensor) -> Tensor:
        first, *others = tensors
        total = first
        for gate, other, projected in zip(self.gates, others, self._projected(others), strict=True):
            total = total + torch.sigmoid(gate(torch.cat((first, other), dim=1))) * projected
        return total
