"""The mean of a whole tensor."""

from __future__ import annotations

from torch import Tensor

from scalenet_gp.kernels import channels_last
from scalenet_gp.layers.same_lattice import SameLattice

__all__ = ["GlobalMean"]


class GlobalMean(SameLattice):
    """The mean over all voxels of a tensor in each of its voxels, (B, C, Z, Y, X) to the same shape.

    It depends on the extent of the tensor: tiles do not equal the whole.

    Example:
        >>> GlobalMean(["features"], ["mean"]).tileable
        False
    """

    arity = 1

    @property
    def tileable(self) -> bool:
        return False

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        return input_channels

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        return channels_last(x.mean(dim=tuple(range(2, x.ndim)), keepdim=True).expand_as(x))
