"""Downsampling by pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from scalenet_gp.kinds.resampling import Downsampling

__all__ = ["Pool"]


class Pool(Downsampling):
    """The maximum or mean over blocks of ``factor`` voxels, (B, C, Z, Y, X) to (B, C, Z/f, Y/f, X/f).

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        factor: voxels per block and axis.
        mode: ``"max"`` or ``"mean"``.
        identifier: name in the graph.
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
        kinds = {"max": (nn.MaxPool2d, nn.MaxPool3d), "mean": (nn.AvgPool2d, nn.AvgPool3d)}
        if mode not in kinds:
            raise ValueError(f"{self.identifier}: mode is one of {sorted(kinds)}, not {mode!r}")
        self.pool: nn.Module = kinds[mode][len(self.factor) - 2](self.factor)  # type: ignore[arg-type]

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        return self.pool(x)
