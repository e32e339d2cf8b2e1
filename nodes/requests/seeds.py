"""Seeds of requests: the only place that touches gunpowder's private seed field."""

from __future__ import annotations

from zlib import crc32

import numpy as np
from gunpowder import BatchRequest

__all__ = ["advance_seed", "batch_seed", "request_generator", "seed_of", "set_seed"]


def batch_seed(seed: int, index: int) -> int:
    """Return the seed of the request for batch number ``index`` of a run: 0 to 2**31 - 1.

    It is far from those of its neighbours, as gunpowder derives the seeds of a chain's nodes by counting up.

    Args:
        seed: of the run, at least 0.
        index: at least 0.
    """
    return int(np.random.default_rng([seed, index]).integers(2**31))


def request_generator(request: BatchRequest, purpose: str) -> np.random.Generator:
    """Return a generator for the draws of one node for one request.

    A request with a seed gives the same numbers every time. gunpowder changes the seed at every node that the request
    passes. ``purpose`` keeps nodes of different kinds apart, should their seeds be equal all the same. Without a seed
    the numbers come from the operating system, so that worker processes forked at the same moment differ.

    Args:
        request: the request as it reaches the node.
        purpose: the node's class name.
    """
    if not request.is_deterministic():
        return np.random.default_rng()
    return np.random.default_rng([request.random_seed, crc32(purpose.encode())])


def seed_of(request: BatchRequest) -> int | None:
    """Return the seed of a request, None if it has none."""
    return request.random_seed if request.is_deterministic() else None


def set_seed(request: BatchRequest, seed: int | None) -> None:
    """Give a request another seed.

    Raises:
        RuntimeError: the installed gunpowder keeps the seed elsewhere.
    """
    _check_field(request)
    request._random_seed = seed


def advance_seed(request: BatchRequest) -> None:
    """Change the seed of a copied request as gunpowder's ``BatchRequest.copy`` does.

    Raises:
        RuntimeError: the installed gunpowder keeps the seed elsewhere.
    """
    _check_field(request)
    request._update_random_seed()


def _check_field(request: BatchRequest) -> None:
    if not (hasattr(request, "_random_seed") and hasattr(request, "_update_random_seed")):
        raise RuntimeError(
            "this version of gunpowder has no BatchRequest._random_seed, on which reproducible batches rest; "
            "gunpowder 1.4.4 and 1.5 have it"
        )
