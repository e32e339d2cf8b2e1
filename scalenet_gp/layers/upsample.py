"""Upsampling without weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from funlib.geometry import Coordinate
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.resampling import Upsampling
from scalenet_gp.layers.same_lattice import without_margin

__all__ = ["Upsample"]


class Upsample(Upsampling):
    """Each voxel repeated, or values in between, (B, C, Z, Y, X) to (B, C, Z·f, Y·f, X·f).

    Linear interpolation is between the centres of the coarse voxels, along every axis. Within half a coarse voxel of
    the border of the input, where there is nothing to interpolate with, nothing is made: the output has then
    2·⌊f/2⌋ voxels less on that axis.

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        factor: voxels that one voxel becomes, per axis.
        mode: ``"nearest"``, which repeats, or ``"linear"``.
        identifier: name in the graph.

    Raises:
        ValueError: the factor is not of 2 or 3 whole numbers from 1 up, or there is no such mode.
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        factor: Sequence[int],
        mode: Literal["nearest", "linear"] = "nearest",
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, factor, None, identifier)
        # "nearest" rounds the wrong way at some factors, 41 being the first; "nearest-exact" takes voxel centres
        modes = {"nearest": "nearest-exact", "linear": {2: "bilinear", 3: "trilinear"}[len(self.factor)]}
        if mode not in modes:  # a kind derived from this one may pass anything
            raise ArgumentError(f"{self.identifier}: mode is one of {sorted(modes)}, not {mode!r}")
        self.mode = mode
        self.margin: Coordinate = Coordinate(f // 2 if mode == "linear" else 0 for f in self.factor)
        self.upsample = nn.Upsample(scale_factor=tuple(float(f) for f in self.factor), mode=modes[mode])

    @property
    def repeats(self) -> tuple[int, ...] | None:
        # a class derived from this one may do more
        return tuple(self.factor) if type(self) is Upsample and self.mode == "nearest" else None

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        return without_margin(self.upsample(x), self.margin)
