"""Nodes that make voxels finer: by repetition or interpolation, or by a transposed convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from funlib.geometry import Coordinate
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.modules import activation_layer, convolution
from scalenet_gp.layers.resampling import Upsampling
from scalenet_gp.layers.same_lattice import without_margin

__all__ = ["TransposedConv", "Upsample"]


class Upsample(Upsampling):
    """Each voxel repeated, or interpolated values, (B, C, Z, Y, X) to (B, C, Z·f, Y·f, X·f).

    Linear interpolation is between the centers of the coarse voxels, along every axis. Within half a coarse voxel of
    the border of the input there is nothing to interpolate with, so nothing is made: the output has 2·⌊f/2⌋ voxels less
    on that axis.

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        factor: voxels that one voxel becomes, per axis.
        mode: ``"nearest"``, which repeats, or ``"linear"``.
        identifier: name in the graph.

    Raises:
        ArgumentError: the factor does not have 2 or 3 whole numbers from 1 up, or there is no such mode.

    Example:
        >>> Upsample(["a"], ["b"], (2, 2, 2), "linear").margin
        (1, 1, 1)
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
        # "nearest" rounds the wrong way at some factors, 41 being the first; "nearest-exact" takes voxel centers
        modes = {"nearest": "nearest-exact", "linear": {2: "bilinear", 3: "trilinear"}[len(self.factor)]}
        if mode not in modes:  # a derived class may pass anything
            raise ArgumentError(f"{self.identifier}: mode is one of {sorted(modes)}, not {mode!r}")
        self.mode = mode
        self.margin: Coordinate = Coordinate(f // 2 if mode == "linear" else 0 for f in self.factor)
        self.upsample = nn.Upsample(scale_factor=tuple(float(f) for f in self.factor), mode=modes[mode])

    @property
    def repeats(self) -> tuple[int, ...] | None:
        # a derived class may do more
        return tuple(self.factor) if type(self) is Upsample and self.mode == "nearest" else None

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        return without_margin(self.upsample(x), self.margin)


class TransposedConv(Upsampling):
    """A transposed convolution whose kernel and stride are ``factor``, (B, C, Z, Y, X) to (B, C', Z·f, Y·f, X·f).

    Args:
        input_keys: the one tensor read, with ``input_nc`` channels.
        output_keys: the one tensor made, with ``output_nc`` channels.
        input_nc: channels of the input.
        output_nc: channels of the output.
        factor: voxels that one voxel becomes, per axis.
        activation: name of an activation in :mod:`torch.nn`, or ``None``.
        identifier: name in the graph.

    Raises:
        ArgumentError: the factor does not have 2 or 3 whole numbers from 1 up.

    Example:
        >>> from scalenet_gp import TensorSpec
        >>> print(*TransposedConv(["a"], ["b"], 8, 4, (2, 2, 2)).output_specs(TensorSpec((16, 16, 16), 8)))
        4 channels of 8 × 8 × 8 nm
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
