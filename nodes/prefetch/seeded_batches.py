"""The batches of a run as a sequence: each follows from the seed of the run and its number."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import numpy as np
import torch
from gunpowder import Batch, BatchProvider, BatchRequest

from scalenet_gp.nodes.requests import CheapCopyRequest, batch_seed

__all__ = ["SeededBatches"]


@final
class SeededBatches:
    """The batches that one request gets from a chain. Each depends on the run's seed and its number alone.

    Besides the request's seed, which gunpowder's nodes hand to the global generators of Python and numpy, torch's is
    set; all three are left as they were found.

    Args:
        provider: the most downstream node of the chain, set up.
        request: the arrays of every batch; its own seed does not matter.
        seed: the seed of the run.

    Example:
        >>> import gunpowder as gp
        >>> from scalenet_gp.nodes import MultiscaleSource
        >>> from scalenet_gp.volumes import MultiscaleImage
        >>> raw = gp.ArrayKey("RAW")
        >>> volume = MultiscaleImage.from_arrays([np.ones((4, 4, 4), np.uint8)], [(8, 8, 8)])
        >>> request = gp.BatchRequest({raw: gp.Roi((0, 0, 0), (32, 32, 32))})
        >>> with gp.build(MultiscaleSource(volume, {raw: (8, 8, 8)})) as source:
        ...     batch = SeededBatches(source, request, seed=0)[3]
        >>> batch[raw].data.shape
        (1, 4, 4, 4)
    """

    def __init__(self, provider: BatchProvider, request: BatchRequest, seed: int) -> None:
        self.provider = provider
        self.wanted = CheapCopyRequest.of(request)
        self.seed = seed

    def request(self, index: int) -> CheapCopyRequest:
        """Return the request for one batch; it may be changed."""
        return CheapCopyRequest.of(self.wanted, random_seed=batch_seed(self.seed, index))

    def __getitem__(self, index: int) -> Batch:
        request = self.request(index)
        with _global_generators_kept():
            torch.default_generator.manual_seed(request.random_seed)  # the processor's alone: GPUs are the trainer's
            return self.provider.request_batch(request)

    def __eq__(self, other: object) -> bool:
        """Return True if batches of equal numbers are equal: the same chain, request and seed."""
        if not isinstance(other, SeededBatches):
            return NotImplemented
        return (
            self.provider is other.provider
            and self.seed == other.seed
            and self.wanted.array_specs == other.wanted.array_specs
            and self.wanted.graph_specs == other.wanted.graph_specs
        )


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
