"""Join tensors by choosing between them in every voxel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scalenet_gp.layers.joining import Join
from scalenet_gp.layers.layers import convolution

__all__ = ["ScaleAttention"]


class ScaleAttention(Join):
    """The mean of all tensors, weighted in every voxel by attention over scales (Chen et al. 2016, arXiv 1511.03339).

    Two 1³ convolutions on all inputs joined, with a rectifier and the channels of the first between them, score each
    input; a softmax over the inputs makes the scores weights that add up to one. What is weighted are the inputs with
    the channels of the first. Arguments and errors: see :class:`~scalenet_gp.layers.joining.Join`.
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_ncs: Sequence[int],
        dims: int = 3,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, input_ncs, dims, identifier)
        point = (1,) * dims
        hidden_nc = self.input_ncs[0]
        self.score = nn.Sequential(
            convolution(sum(self.input_ncs), hidden_nc, point),
            nn.ReLU(),
            convolution(hidden_nc, len(self.input_ncs), point),
        )

    def forward(self, *tensors: Tensor) -> Tensor:
        first, *others = tensors
        weights = torch.softmax(self.score(torch.cat(tensors, dim=1)), dim=1)
        total = first * weights[:, :1]
        for index, projected in enumerate(self._projected(others), start=1):
            total = total + projected * weights[:, index : index + 1]
        return total
