"""A batch on disk, to find out what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import gunpowder as gp
import numpy as np
from safetensors.numpy import save

from scalenet_gp.serialization import atomic_write

__all__ = ["write_fault"]


def write_fault(path: Path, batch: gp.Batch) -> Path:
    """Write all arrays of ``batch`` as one safetensors file, whole or not at all.

    Arrays are under the names of their keys. The file's metadata have, for each, its ROI, its voxel size, and its
    ``attrs`` as text: where it was taken and what was drawn.

    Raises:
        OSError: it cannot be written.
    """
    arrays = {key.identifier: np.ascontiguousarray(array.data) for key, array in batch.arrays.items()}
    described = {
        key.identifier: json.dumps(
            {
                "begin": None if array.spec.roi is None else list(map(int, array.spec.roi.begin)),
                "voxel_size": None if array.spec.voxel_size is None else list(map(int, array.spec.voxel_size)),
                "attrs": {name: str(value) for name, value in (array.attrs or {}).items()},
            }
        )
        for key, array in batch.arrays.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as beside:
        beside.write_bytes(save(arrays, described))
    return path
