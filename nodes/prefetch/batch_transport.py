"""Batches in shared memory, and array keys that survive pickling."""

from __future__ import annotations

import copyreg
from copy import copy
from dataclasses import dataclass
from typing import Self, final

import numpy as np
import torch
from gunpowder import ArrayKey, Batch, GraphKey

__all__ = ["PackedBatch"]


@final
@dataclass(frozen=True)
class PackedBatch:
    """A batch whose arrays lie in shared memory, so that sending it to another process copies no voxels.

    Everything else of the batch (specs, attributes, graphs, timings) is pickled as it is, and so are arrays of Python
    objects.
    """

    batch: Batch
    shared: dict[ArrayKey, tuple[torch.Tensor, np.dtype, tuple[int, ...]]]

    @classmethod
    def pack(cls, batch: Batch) -> Self:
        """Copy a batch's arrays into shared memory; the batch stays as it is."""
        packed, shared = copy(batch), {}
        packed.arrays = {}
        for key, array in batch.arrays.items():
            packed.arrays[key] = copy(array)
            if not array.data.dtype.hasobject:
                shared[key] = (_shared_bytes(array.data), array.data.dtype, array.data.shape)
                packed.arrays[key].data = None
        return cls(packed, shared)

    def unpack(self) -> Batch:
        """Return the batch. Its arrays are the shared memory itself, which is freed together with them."""
        for key, (tensor, dtype, shape) in self.shared.items():
            self.batch.arrays[key].data = tensor.numpy().view(dtype).reshape(shape)
        return self.batch


def _shared_bytes(data: np.ndarray) -> torch.Tensor:
    # As bytes, since torch knows fewer types than numpy. At once, as the node may use its buffer for the next batch.
    return torch.from_numpy(np.require(data, requirements=["C", "W"]).reshape(-1).view(np.uint8)).share_memory_()


def _by_identifier(key: ArrayKey | GraphKey) -> tuple[type, tuple[str]]:
    return type(key), (key.identifier,)


# A key remembers the hash of its name, which is another one in every process: dictionaries of unpickled keys would hold
# what nobody can find.
copyreg.pickle(ArrayKey, _by_identifier)
copyreg.pickle(GraphKey, _by_identifier)
