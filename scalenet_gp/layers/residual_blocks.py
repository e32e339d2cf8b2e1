"""Passes of residual blocks: inverted residuals and ConvNeXt blocks; other blocks derive from their base."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from funlib.geometry import Coordinate
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.checks import check_whole
from scalenet_gp.layers.modules import activation_layer, convolution, is_local, normalization_layer
from scalenet_gp.layers.same_lattice import SingleInput, without_margin

__all__ = ["ConvNeXtBlocks", "InvertedResiduals", "ResidualBlocks"]


class ResidualBlocks(SingleInput):
    """Abstract: a block for each kernel; a block's input, cropped to the center, is added if its channels are kept.

    A derived class makes the blocks (:meth:`_block`), and the layers before and after them if there are any.

    Args:
        input_keys: the one tensor read, (B, ``input_nc``, Z, Y, X).
        output_keys: the one tensor made, (B, ``output_nc``, Z, Y, X).
        input_nc: channels of the input.
        output_nc: channels of every block's output.
        kernel_sizes: depthwise kernel of each block, in voxels per axis; odd, so that the input can be added.
        expansion: channels within a block per channel outside.
        activation: name of an activation in :mod:`torch.nn`, or ``None``.
        norm_layer: as for :class:`.ConvPass`.
        padding: ``"valid"`` or ``"same"``, as for :class:`.ConvPass`.
        padding_mode: as for :class:`.ConvPass`.
        identifier: name in the graph.
    """

    reach: ClassVar[int] = 1
    """Number of times that a block applies its kernel, one upon the other."""

    adds_input: ClassVar[bool] = True
    """True if the input of a block is added to its output."""

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        output_nc: int,
        kernel_sizes: Sequence[Sequence[int]],
        expansion: int,
        activation: str | None,
        norm_layer: str | None,
        padding: Literal["valid", "same"],
        padding_mode: str,
        identifier: str | None,
    ) -> None:
        kernels = [tuple(kernel) for kernel in kernel_sizes]
        dims = len(kernels[0]) if kernels else 0
        super().__init__(input_keys, output_keys, identifier, input_nc=input_nc, output_ncs=[output_nc], dims=dims)
        if not dims or any(len(kernel) != dims or any(k < 1 or k % 2 == 0 for k in kernel) for kernel in kernels):
            raise ArgumentError(
                f"{self.identifier}: kernel_sizes are one or more kernels of one dimension and of odd sizes, so that "
                f"the input of a block can be added to its output, not {kernels}"
            )
        if padding not in ("valid", "same") or padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ArgumentError(
                f"{self.identifier}: padding is 'valid' or 'same' and padding_mode 'zeros', 'reflect', 'replicate' or "
                f"'circular', not {padding!r} and {padding_mode!r}"
            )
        try:
            check_whole(input_nc=input_nc, output_nc=output_nc, expansion=expansion)
        except ValueError as error:
            raise ArgumentError(f"{self.identifier}: {error}") from None
        self._expansion, self._activation, self._norm_layer = expansion, activation, norm_layer
        self._padding: dict[str, Any] = {"padding": padding, "padding_mode": padding_mode}
        valid = padding == "valid"
        self._crops = [Coordinate(self.reach * (k // 2) if valid else 0 for k in kernel) for kernel in kernels]
        self.margin = sum(self._crops, Coordinate((0,) * dims))
        self.entry = self._entry()
        nc = input_nc if self.entry is None else output_nc
        self._adds = [self.adds_input and (index > 0 or nc == output_nc) for index in range(len(kernels))]
        self.blocks = nn.ModuleList()
        for kernel, crop in zip(kernels, self._crops, strict=True):
            self.blocks.append(self._block(nc, kernel, crop))
            nc = self._made_nc(nc)
        self.exit = self._exit(nc)
        local = norm_layer is None or is_local(normalization_layer(norm_layer, 2, dims))
        self._tileable = local and (valid or all(k == 1 for kernel in kernels for k in kernel))

    def _entry(self) -> nn.Module | None:
        """Return the layer before the first block, if there is one."""
        return None

    def _exit(self, input_nc: int) -> nn.Module | None:
        """Return the layer behind the last block, if there is one."""
        return None

    def _made_nc(self, input_nc: int) -> int:
        """Return the channels that a block makes of so many."""
        (output_nc,) = self.output_ncs
        return output_nc

    def _norm(self, channels: int) -> list[nn.Module]:
        """Return the normalization of a tensor, if there is one."""
        norm = self._norm_layer
        return [] if norm is None else [normalization_layer(norm, channels, len(self._crops[0]))]

    @abstractmethod
    def _block(self, input_nc: int, kernel: tuple[int, ...], crop: Coordinate) -> nn.Module:
        """Return a block, without the sum with its input, of which it takes ``crop`` voxels off either side."""

    @property
    def tileable(self) -> bool:
        return self._tileable

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        if self.entry is not None:
            x = self.entry(x)
        for block, crop, adds in zip(self.blocks, self._crops, self._adds, strict=True):
            made = block(x)
            x = made + without_margin(x, crop) if adds else made
        return x if self.exit is None else self.exit(x)


class InvertedResiduals(ResidualBlocks):
    """A pass of inverted residuals with linear bottlenecks (Sandler et al. 2018, arXiv 1801.04381).

    (B, ``input_nc``, Z, Y, X) to (B, ``output_nc``, Z', Y', X'), smaller by half of each kernel on either side. Each
    block is a 1³ convolution to ``expansion`` times the channels, a depthwise convolution, and a 1³ convolution to
    ``output_nc`` channels, each without bias and followed by the normalization, the first two by the activation as
    well. The input of a block is added where it has as many channels.

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        input_nc: channels of the input.
        output_nc: channels of every block's output.
        kernel_sizes: depthwise kernel of each block, in voxels per axis; odd.
        expansion: channels within a block per channel of its input; 6 as in the paper.
        activation: name of an activation in :mod:`torch.nn`, or ``None``.
        norm_layer: ``"batch"``, ``"instance"``, ``"group"``, ``"calibrated_group"``, ``"layer"`` or ``None``.
        padding: ``"valid"`` or ``"same"``, as for :class:`.ConvPass`.
        padding_mode: as for :class:`.ConvPass`.
        identifier: name in the graph.

    Raises:
        ArgumentError: an argument is out of its range, or a kernel is even.

    Example:
        >>> InvertedResiduals(["a"], ["b"], 8, 16, [(3, 3, 3), (1, 3, 3)]).margin
        (1, 2, 2)
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        output_nc: int,
        kernel_sizes: Sequence[Sequence[int]],
        expansion: int = 6,
        activation: str | None = "ReLU6",
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
            expansion,
            activation,
            norm_layer,
            padding,
            padding_mode,
            identifier,
        )

    def _block(self, input_nc: int, kernel: tuple[int, ...], crop: Coordinate) -> nn.Module:
        (output_nc,) = self.output_ncs
        point, wide = (1,) * len(kernel), self._expansion * input_nc
        return nn.Sequential(
            convolution(input_nc, wide, point, bias=False),
            *self._norm(wide),
            activation_layer(self._activation),
            convolution(wide, wide, kernel, groups=wide, bias=False, **self._padding),
            *self._norm(wide),
            activation_layer(self._activation),
            convolution(wide, output_nc, point, bias=False),
            *self._norm(output_nc),
        )


class ConvNeXtBlocks(ResidualBlocks):
    """A pass of ConvNeXt blocks (Liu et al. 2022, arXiv 2201.03545), as MedNeXt has them in a U-Net.

    (B, ``input_nc``, Z, Y, X) to (B, ``output_nc``, Z', Y', X'), smaller by half of each kernel on either side. Each
    block is a depthwise convolution, the normalization, a 1³ convolution to ``expansion`` times the channels, the
    activation, a 1³ convolution back, and a factor for each channel that is learned from 10⁻⁶ up; its input is added.
    If the input has other channels than the output, a 1³ convolution before the first block changes them. For MedNeXt
    see Roy et al. 2023, arXiv 2303.09975.

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        input_nc: channels of the input.
        output_nc: channels of every block's output.
        kernel_sizes: depthwise kernel of each block, in voxels per axis; odd. The paper's are 7, MedNeXt's 3 and 5.
        expansion: channels within a block per channel of its input; 4 as in the paper.
        activation: name of an activation in :mod:`torch.nn`, or ``None``.
        norm_layer: ``"layer"`` as in the paper, or as for :class:`.ConvPass`.
        padding: ``"valid"`` or ``"same"``, as for :class:`.ConvPass`.
        padding_mode: as for :class:`.ConvPass`.
        identifier: name in the graph.

    Raises:
        ArgumentError: an argument is out of its range, or a kernel is even.

    Example:
        >>> ConvNeXtBlocks(["a"], ["b"], 8, 16, [(7, 7, 7)]).margin
        (3, 3, 3)
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        output_nc: int,
        kernel_sizes: Sequence[Sequence[int]],
        expansion: int = 4,
        activation: str | None = "GELU",
        norm_layer: str | None = "layer",
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
            expansion,
            activation,
            norm_layer,
            padding,
            padding_mode,
            identifier,
        )

    def _entry(self) -> nn.Module | None:
        (output_nc,) = self.output_ncs
        return None if self.input_nc == output_nc else convolution(self.input_nc, output_nc, (1,) * len(self._crops[0]))

    def _block(self, input_nc: int, kernel: tuple[int, ...], crop: Coordinate) -> nn.Module:
        point, wide = (1,) * len(kernel), self._expansion * input_nc
        return nn.Sequential(
            convolution(input_nc, input_nc, kernel, groups=input_nc, **self._padding),
            *self._norm(input_nc),
            convolution(input_nc, wide, point),
            activation_layer(self._activation),
            convolution(wide, input_nc, point),
            _LayerScale(input_nc, len(kernel)),
        )


class _LayerScale(nn.Module):
    """A learned factor for each channel (Touvron et al. 2021, arXiv 2103.17239), (B, C, Z, Y, X) to the same shape."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels, *(1,) * dims), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma
