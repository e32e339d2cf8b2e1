"""Means over windows of several sizes side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from funlib.geometry import Coordinate
from torch import Tensor, nn
from torch.nn import functional

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.checks import is_whole
from scalenet_gp.layers.modules import activation_layer, convolution
from scalenet_gp.layers.same_lattice import SingleInput, without_margin

__all__ = ["PoolingPyramid"]


class PoolingPyramid(SingleInput):
    """Means over windows of several sizes around each voxel, beside the voxel: PSPNet's pyramid pooling, made local.

    (B, ``input_nc``, Z, Y, X) to (B, ``output_nc``, Z', Y', X'), smaller by half of the largest window on either side.
    Each mean passes a 1³ convolution to ``input_nc`` divided by the number of windows; all are joined with the features
    and pass a 1³ convolution to ``output_nc``. Each convolution is followed by the activation.

    PSPNet (Zhao et al. 2017, arXiv 1612.01105) pools over parts of the whole image, up to all of it, and upsamples what
    it finds. So its result depends on the extent of the image. Windows that move with the voxel do not: tiles equal the
    whole.

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        input_nc: channels of the input.
        output_nc: channels of the output.
        windows: voxels of each window along each axis, odd; one number for all axes, or one per axis.
        activation: name of an activation in :mod:`torch.nn`, or ``None``.
        dims: number of spatial axes.
        identifier: name in the graph.

    Raises:
        ArgumentError: there is no window, one is even, or has other axes.

    Example:
        >>> PoolingPyramid(["a"], ["b"], 12, 8, windows=(3, 9)).margin
        (4, 4, 4)
    """

    margin: Coordinate

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        output_nc: int,
        windows: Sequence[int | tuple[int, ...]] = (3, 5, 9),
        activation: str | None = "ReLU",
        dims: int = 3,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier, input_nc=input_nc, output_ncs=[output_nc], dims=dims)
        sizes = [(window,) * dims if isinstance(window, int) else tuple(window) for window in windows]
        if not sizes or any(len(size) != dims or not all(is_whole(n) and n % 2 for n in size) for size in sizes):
            raise ArgumentError(
                f"{self.identifier}: windows are one or more odd numbers of voxels, each for all axes or one for each "
                f"of {dims}, not {list(windows)}"
            )
        self._windows = sizes
        self.margin = Coordinate(max(along) // 2 for along in zip(*sizes, strict=True))
        nc, point = max(1, input_nc // len(sizes)), (1,) * dims
        self.branches = nn.ModuleList(
            nn.Sequential(convolution(input_nc, nc, point), activation_layer(activation)) for _ in sizes
        )
        joined = convolution(input_nc + nc * len(sizes), output_nc, point)
        self.join = nn.Sequential(joined, activation_layer(activation))

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        parts = [without_margin(x, self.margin)]
        for window, branch in zip(self._windows, self.branches, strict=True):
            rest = tuple(margin - size // 2 for margin, size in zip(self.margin, window, strict=True))
            parts.append(branch(_windowed_mean(without_margin(x, rest), window)))
        made: Tensor = self.join(torch.cat(parts, dim=1))
        return made


def _windowed_mean(x: Tensor, window: Sequence[int]) -> Tensor:
    """Return the mean over a window around each voxel, where it fits: along one axis after another."""
    pool = functional.avg_pool3d if x.ndim == 5 else functional.avg_pool2d
    for axis, size in enumerate(window):
        x = pool(x, [size if along == axis else 1 for along in range(len(window))], stride=1)
    return x
