"""Places of keys in a table with open addressing, for compiled functions."""

from __future__ import annotations

import numpy as np

from scalenet_gp.kernels import numba_jit

__all__ = ["find_slot"]


@numba_jit
def find_slot(keys: np.ndarray, key: int) -> int:
    """Return the place of a key, or the free place where it belongs.

    Args:
        keys: int64, as many as a power of two, some of them free: -1.
        key: 0 or above.
    """
    mask = len(keys) - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    slot: int = np.int64(mixed >> np.uint64(20)) & mask  # type: ignore[assignment]
    while keys[slot] != key and keys[slot] != -1:
        slot = (slot + 1) & mask
    return slot
