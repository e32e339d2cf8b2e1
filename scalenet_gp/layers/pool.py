"""Downsampling by pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.resampling import Downsampling

__all__ = ["Pool"]


class Pool(Downsampling):
    """The maximum or mean over blocks of ``factor`` voxels, (B, C, Z, Y, X) to (B, C, Z/f, Y/f, X/f).

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        factor: voxels per block and axis.
        mode: ``"max"`` or ``"mean"``.
        identifier: name in the graph.

    Raises:
        ValueError: the factor is not of 2 or 3 whole numbers from 1 up, or there is no such mode.
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
        if mode not in kinds:  # a kind derived from this one may pass anything
            raise ArgumentError(f"{self.identifier}: mode is one of {sorted(kinds)}, not {mode!r}")
        self.pool: nn.Module = kinds[mode][len(self.factor) - 2](self.factor)

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        return self.pool(x)


class _MeanPool3d(nn.Module):
    """The mean over blocks, (B, C, Z, Y, X) to (B, C, Z/f, Y/f, X/f), as that over planes and then across them.

    :class:`torch.nn.AvgPool3d` turns channels last around, knows no bfloat16 on a CPU, and takes 3 to 10 times as long.
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
