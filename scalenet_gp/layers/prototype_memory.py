"""Attention over learned prototypes of features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.kernels import channels_last
from scalenet_gp.layers.checks import is_whole
from scalenet_gp.layers.modules import convolution
from scalenet_gp.layers.same_lattice import SingleInput

__all__ = ["PrototypeMemory"]


class PrototypeMemory(SingleInput):
    """The input plus what a memory of learned prototypes recalls in each voxel, (B, C, Z, Y, X) to the same shape.

    Each prototype has a key and a value of ``input_nc`` numbers. In every voxel, a softmax over the scalar products of
    the features with all keys, divided by √``input_nc``, weighs the values; their sum is added to the features. It is
    the attention of memory networks (Sukhbaatar et al. 2015, arXiv 1503.08895) over items that belong to the weights,
    as those of MemAE do (Gong et al. 2019, arXiv 1904.02639). A voxel sees all prototypes and no other voxel, so tiles
    equal the whole.

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        input_nc: channels of input and output.
        prototypes: number of prototypes.
        dims: number of spatial axes.
        identifier: name in the graph.

    Raises:
        ArgumentError: there are fewer than two prototypes.

    Example:
        >>> PrototypeMemory(["a"], ["b"], 24, prototypes=64).output_channels(24)
        (24,)
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        prototypes: int = 64,
        dims: int = 3,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier, input_nc=input_nc, output_ncs=[input_nc], dims=dims)
        if not is_whole(prototypes, least=2):
            raise ArgumentError(f"{self.identifier}: prototypes is a whole number from 2 up, not {prototypes!r}")
        self.keys = convolution(input_nc, prototypes, (1,) * dims, bias=False)
        self.values = convolution(prototypes, input_nc, (1,) * dims, bias=False)

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        weights = torch.softmax(self.keys(x) / math.sqrt(self.input_nc), dim=1)
        recalled: Tensor = self.values(channels_last(weights))  # torch's softmax changes the memory format
        return x + recalled
