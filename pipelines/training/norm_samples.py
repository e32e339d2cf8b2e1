"""Training samples over which a run estimates the statistics of normalizations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import final

import gunpowder as gp
from torch import Tensor

from scalenet_gp.nodes import Prefetch, Train
from scalenet_gp.nodes.prefetch import SeededBatches
from scalenet_gp.training import NormStatisticsOptions

__all__ = ["DrawnInputs"]


@final
class DrawnInputs:
    """The inputs of batches drawn as training draws its own, each time the same ones.

    They come from the chain of training, where a batch depends on seed and number alone. So the batches of training do
    not change. Memory is taken for one of them at a time.

    Args:
        prefetch: the node behind the chain that draws batches.
        train: the node that learns from them, downstream.
        request: the request for a batch of training, to ``train``.
        options: number of samples, and their seed.
        batch_size: samples in a batch. There are as many batches as have at least the ``samples`` of the options.
    """

    def __init__(
        self,
        prefetch: Prefetch,
        train: Train,
        request: gp.BatchRequest,
        options: NormStatisticsOptions,
        batch_size: int,
    ) -> None:
        self.plan = train.arrays.plan(request)
        self._prefetch, self._arrays = prefetch, train.arrays
        self._needed = train.prepare(request)
        self._seed = options.seed
        self._count = math.ceil(options.samples / batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        batches = SeededBatches(self._prefetch.get_upstream_provider(), self._needed, self._seed)
        for number in range(self._count):
            yield self._arrays.tensors(batches[number], self.plan)
