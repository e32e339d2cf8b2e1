"""One source of random numbers per node and request."""

from __future__ import annotations

from zlib import crc32

import numpy as np
from gunpowder import BatchRequest

__all__ = ["request_generator"]


def request_generator(request: BatchRequest, purpose: str) -> np.random.Generator:
    """A generator for what one node draws for one request.

    A request with a seed gives the same numbers every time. gunpowder changes the seed at every node that the request
    passes; ``purpose`` (the node's class name) keeps nodes of different kinds apart where two seeds meet all the same.
    Without a seed the numbers come from the operating system, so worker processes forked at the same moment differ.
    """
    if not request.is_deterministic():
        return np.random.default_rng()
    return np.random.default_rng([request.random_seed, crc32(purpose.encode())])
