"""Join tensors by their channels."""

from __future__ import annotations

import torch
from torch import Tensor

from scalenet_gp.layers.same_lattice import SameLattice

__all__ = ["Concatenate"]


class Concatenate(SameLattice):
    """The channels of all inputs, (B, C₁, Z, Y, X) and so on, as one tensor (B, C₁ + C₂ + …, Z, Y, X).

    The inputs share one voxel size. The graph crops each of them to the ROI that the reader of the result needs.
    """

    @property
    def concatenates(self) -> bool:
        return type(self) is Concatenate  # a class derived from this one may do more

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        return (sum(input_channels),)

    def forward(self, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, dim=1)
