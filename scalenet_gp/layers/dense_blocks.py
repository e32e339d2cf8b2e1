"""Passes of convolutions that read their own or all earlier results: recurrent residual and dense blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from funlib.geometry import Coordinate
from torch import Tensor, nn

from scalenet_gp.kernels import channels_last
from scalenet_gp.layers.modules import activation_layer, convolution
from scalenet_gp.layers.residual_blocks import ResidualBlocks
from scalenet_gp.layers.same_lattice import without_margin

__all__ = ["DenseBlock", "RecurrentResiduals"]


class _Plain(ResidualBlocks):
    """Abstract: blocks of plain convolutions, each followed by the normalization and the activation.

    Args:
        input_keys: the one tensor read, (B, ``input_nc``, Z, Y, X).
        output_keys: the one tensor made, (B, ``output_nc``, Z, Y, X).
        input_nc: channels of the input.
        output_nc: channels of the output.
        kernel_sizes: kernel of each block, in voxels per axis; odd.
        activation: name of an activation in :mod:`torch.nn`, or ``None``.
        norm_layer: as for :class:`.ConvPass`.
        padding: ``"valid"`` or ``"same"``, as for :class:`.ConvPass`.
        padding_mode: as for :class:`.ConvPass`.
        identifier: name in the graph.
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        output_nc: int,
        kernel_sizes: Sequence[Sequence[int]],
        activation: str | None = "ReLU",
        norm_layer: str | None = "batch",
        padding: Literal["valid", "same"] = "valid",
        padding_mode: str = "reflect",
        identifier: str | None = None,
    ) -> None:
        super().__init__(
            input_keys,
            output_keys,
            input_nc,
            output_nc,
            kernel_sizes,
            1,
            activation,
            norm_layer,
            padding,
            padding_mode,
            identifier,
        )

    def _layer(self, input_nc: int, kernel: tuple[int, ...]) -> nn.Sequential:
        (output_nc,) = self.output_ncs
        return nn.Sequential(
            convolution(input_nc, output_nc, kernel, **self._padding),
            *self._norm(output_nc),
            activation_layer(self._activation),
        )


class RecurrentResiduals(_Plain):
    """A pass of recurrent residual blocks, as R2U-Net has them (Alom et al. 2018, arXiv 1802.06955).

    (B, ``input_nc``, Z, Y, X) to (B, ``output_nc``, Z', Y', X'), smaller by three halves of each kernel on either side.
    Each block applies one convolution three times: to its input, and twice to its input plus the result before. Its
    input is added to the last result. If the input has other channels than the output, a 1³ convolution before the
    first block changes them. Arguments are those of the base; kernels are odd.

    Raises:
        ArgumentError: an argument is out of its range, or a kernel is even.

    Example:
        >>> RecurrentResiduals(["a"], ["b"], 8, 16, [(3, 3, 3), (1, 3, 3)]).margin
        (3, 6, 6)
    """

    reach: ClassVar[int] = 3

    def _entry(self) -> nn.Module | None:
        (output_nc,) = self.output_ncs
        return None if self.input_nc == output_nc else convolution(self.input_nc, output_nc, (1,) * len(self._crops[0]))

    def _block(self, input_nc: int, kernel: tuple[int, ...], crop: Coordinate) -> nn.Module:
        return _Recurrence(self._layer(input_nc, kernel), crop / self.reach, self.reach - 1)


class _Recurrence(nn.Module):
    def __init__(self, layer: nn.Module, crop: Coordinate, repeats: int) -> None:
        super().__init__()
        self.layer, self._crop, self._repeats = layer, crop, repeats

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x)
        for _ in range(self._repeats):
            x = without_margin(x, self._crop)
            made = self.layer(x + made)
        return made


class DenseBlock(_Plain):
    """A pass of convolutions that each read the input and all results before (Huang et al. 2017, arXiv 1608.06993).

    (B, ``input_nc``, Z, Y, X) to (B, ``output_nc``, Z', Y', X'), smaller by half of each kernel on either side. Each
    convolution makes ``output_nc`` channels, which are joined with what it has read, cropped to the center. A 1³
    convolution of all makes the output. Arguments are those of the base; kernels are odd.

    Raises:
        ArgumentError: an argument is out of its range, or a kernel is even.

    Example:
        >>> DenseBlock(["a"], ["b"], 8, 16, [(3, 3, 3), (1, 3, 3)]).margin
        (1, 2, 2)
    """

    adds_input: ClassVar[bool] = False

    def _block(self, input_nc: int, kernel: tuple[int, ...], crop: Coordinate) -> nn.Module:
        return _Growth(self._layer(input_nc, kernel), crop)

    def _made_nc(self, input_nc: int) -> int:
        (output_nc,) = self.output_ncs
        return input_nc + output_nc

    def _exit(self, input_nc: int) -> nn.Module | None:
        (output_nc,) = self.output_ncs
        return convolution(input_nc, output_nc, (1,) * len(self._crops[0]))


class _Growth(nn.Module):
    def __init__(self, layer: nn.Module, crop: Coordinate) -> None:
        super().__init__()
        self.layer, self._crop = layer, crop

    def forward(self, x: Tensor) -> Tensor:
        return channels_last(torch.cat([without_margin(x, self._crop), self.layer(x)], dim=1))
