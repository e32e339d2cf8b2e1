"""Files of batches that could not be learned from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from scalenet_gp.serialization import atomic_write

__all__ = ["write_fault"]


def write_fault(path: Path, arrays: Mapping[str, np.ndarray], described: Mapping[str, str] | None = None) -> Path:
    """Write arrays as one safetensors file, whole or not at all.

    Args:
        path: the file; its folder is made if it is missing.
        arrays: arrays by name.
        described: a text for each array, kept in the file's metadata under the same names.

    Returns:
        The file.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as beside:
        beside.write_bytes(save({k: np.ascontiguousarray(a) for k, a in arrays.items()}, dict(described or {})))
    return path
