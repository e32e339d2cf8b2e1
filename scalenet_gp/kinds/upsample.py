"""Upsampling without weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from scalenet_gp.kinds.resampling import Upsampling

__all__ = ["Upsample"]


class Upsample(Upsampling):
    """Each voxel repeated ``factor`` times (nearest neighbour), (B, C, Z, Y, X) to (B, C, Z·f, Y·f, X·f).

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        factor: how often a voxel is repeated along each axis.
        identifier: name in the graph.
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        factor: Sequence[int],
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, factor, None, identifier)
        # "nearest" rounds the wrong way at some factors, 41 being the first; "nearest-exact" takes voxel centres
        self.upsample = nn.Upsample(scale_factor=tuple(float(f) for f in self.factor), mode="nearest-exact")

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        return self.upsample(x)
