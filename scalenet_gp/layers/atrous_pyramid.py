"""Convolutions of several dilations side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from funlib.geometry import Coordinate
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.checks import is_whole
from scalenet_gp.layers.modules import activation_layer, convolution
from scalenet_gp.layers.same_lattice import SingleInput, without_margin

__all__ = ["AtrousPyramid"]


class AtrousPyramid(SingleInput):
    """Atrous spatial pyramid pooling (Chen et al. 2017, arXiv 1706.05587) with valid convolutions.

    (B, ``input_nc``, Z, Y, X) to (B, ``output_nc``, Z', Y', X'), smaller by the reach of the largest dilation on either
    side. The branches are a 1³ convolution, one convolution per dilation, and with ``image_pooling`` a 1³ convolution
    of the mean over the whole input. Each makes ``output_nc`` channels and is followed by the activation. Joined, they
    go through a last 1³ convolution and activation.

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        input_nc: channels of the input.
        output_nc: channels of every branch and of the output.
        dilations: distance of kernel elements in voxels, for each branch: one number, or one per axis.
        kernel_size: kernel of the dilated convolutions, in voxels per axis; three unless given.
        image_pooling: add the branch of the mean. Tiles do not agree with the whole then.
        activation: name of an activation in :mod:`torch.nn`, or ``None``.
        dims: number of spatial axes.
        identifier: name in the graph.

    Raises:
        ArgumentError: an argument is out of its range, or a branch would be shifted by half a voxel.

    Example:
        >>> AtrousPyramid(["a"], ["b"], 8, 4, dilations=[1, 2, 4]).margin
        (4, 4, 4)
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        output_nc: int,
        dilations: Sequence[int | Sequence[int]] = (1, 2, 4),
        kernel_size: Sequence[int] | None = None,
        image_pooling: bool = False,
        activation: str | None = "ReLU",
        dims: int = 3,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier, input_nc=input_nc, output_ncs=[output_nc], dims=dims)
        point = (1,) * dims
        kernel = (3,) * dims if kernel_size is None else tuple(kernel_size)
        steps = [tuple(d) if isinstance(d, Iterable) else (d,) * dims for d in dilations]
        if not steps or any(len(step) != dims or not all(map(is_whole, step)) for step in steps):
            raise ArgumentError(
                f"{self.identifier}: dilations are one or more whole numbers from 1 up, or {dims} of them for each "
                f"branch, not {list(dilations)}"
            )
        if len(kernel) != dims:
            raise ArgumentError(f"{self.identifier}: the kernel {kernel} has {len(kernel)} axes, not {dims}")
        lost = [[(k - 1) * d for k, d in zip(kernel, step, strict=True)] for step in steps]
        if any(voxels % 2 for branch in lost for voxels in branch):
            raise ArgumentError(
                f"{self.identifier}: kernel {kernel} with dilations {steps} takes {lost} voxels off the axes; an odd "
                "number would shift a branch by half a voxel"
            )
        self.margin = Coordinate(max(axis) // 2 for axis in zip(*lost, strict=True))
        self._crops = [tuple(self.margin), *(tuple(self.margin - Coordinate(branch) / 2) for branch in lost)]
        self.branches = nn.ModuleList(
            [
                convolution(input_nc, output_nc, point),
                *(convolution(input_nc, output_nc, kernel, dilation=step) for step in steps),
            ]
        )
        self.pooled = convolution(input_nc, output_nc, point) if image_pooling else None
        self.projection = convolution((len(self.branches) + image_pooling) * output_nc, output_nc, point)
        self.activation = activation_layer(activation)

    @property
    def tileable(self) -> bool:
        return self.pooled is None

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        made = [branch(without_margin(x, crop)) for branch, crop in zip(self.branches, self._crops, strict=True)]
        if self.pooled is not None:
            mean = self.pooled(x.mean(dim=tuple(range(2, x.dim())), keepdim=True))
            made.append(torch.zeros_like(made[0]) + mean)  # torch.cat of an expanded mean loses the memory format
        return self.activation(self.projection(self.activation(torch.cat(made, dim=1))))
