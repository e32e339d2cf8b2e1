"""Share work on the planes of an array out over threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TypeVar

import torch

__all__ = ["over_planes"]

_LEAST_VOXELS = 20_000
"""Below this number, waking a thread takes longer than its work."""

Result = TypeVar("Result")


def over_planes(planes: int, voxels: int, work: Callable[[int, int], Result]) -> list[Result]:
    """Return ``work(begin, end)`` for slabs that make up ``planes``, in order, on as many threads as torch uses.

    ``work`` has to let go of Python's lock to gain anything. torch's number is the one that users set already
    (``OMP_NUM_THREADS``, ``torch.set_num_threads``), and it is one in the workers of a DataLoader.

    Args:
        planes: the number of planes.
        voxels: the number of voxels in all planes; a little work is done in the calling thread.
        work: called for the planes from ``begin`` up to ``end``.
    """
    threads = min(torch.get_num_threads(), planes, voxels // _LEAST_VOXELS)
    if threads < 2:
        return [work(0, planes)]
    # two slabs for each thread, as none of them is as fast as another
    bounds = [planes * i // (2 * threads) for i in range(2 * threads + 1)]
    slabs = [(begin, end) for begin, end in pairwise(bounds) if begin < end]
    return list(_pool(os.getpid(), threads).map(lambda slab: work(*slab), slabs))


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the pool of a process: the threads of a parent do not live in its forked children."""
    return ThreadPoolExecutor(threads, thread_name_prefix="planes")
