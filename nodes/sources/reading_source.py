"""The base of sources that read all requested arrays together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping

import numpy as np
from gunpowder import Array, ArrayKey, Batch, BatchProvider, BatchRequest
from gunpowder.profiling import Timing

from scalenet_gp.errors import ArgumentError
from scalenet_gp.nodes.requests import CheapCopySpec

__all__ = ["ReadingSource", "check_masks"]


class ReadingSource(BatchProvider, ABC):
    """Abstract: a source that announces the specs :attr:`_specs` and starts all reads before it waits for any.

    Example:
        >>> import gunpowder as gp
        >>> class Ones(ReadingSource):
        ...     _specs = {gp.ArrayKey("RAW"): CheapCopySpec(gp.Roi((0, 0), (8, 8)), (1, 1))}
        ...     def start(self, request):
        ...         return {key: lambda: np.ones((8, 8)) for key in request.array_specs}
        >>> with gp.build(Ones()) as source:
        ...     batch = source.request_batch(gp.BatchRequest({gp.ArrayKey("RAW"): gp.Roi((0, 0), (8, 8))}))
        >>> int(batch[gp.ArrayKey("RAW")].data.sum())
        64
    """

    _specs: Mapping[ArrayKey, CheapCopySpec]

    channel_axis = True
    """False: what is read has one channel, and arrays are delivered without its axis."""

    @abstractmethod
    def start(self, request: BatchRequest) -> Mapping[ArrayKey, Callable[[], np.ndarray]]:
        """Start to read the requested arrays. Return, by key, the functions to call to wait for the data."""

    def setup(self) -> None:
        """Announce the arrays and masks."""
        for key, spec in self._specs.items():
            self.provides(key, spec)

    def provide(self, request: BatchRequest) -> Batch:
        """Read the requested arrays."""
        timing = Timing(self)
        timing.start()
        batch = Batch()
        for key, finish in self.start(request).items():
            spec = self.spec[key].copy()
            spec.roi = request[key].roi
            data = finish()
            batch.arrays[key] = Array(data if self.channel_axis else data[0], spec)
        timing.stop()
        batch.profiling_stats.add(timing)
        return batch


def check_masks(arrays: Collection[ArrayKey], masks: Mapping[ArrayKey, ArrayKey]) -> None:
    """Check that every mask belongs to one of ``arrays`` and has a key of its own.

    Raises:
        ArgumentError: it does not.
    """
    for array, mask in masks.items():
        if array not in arrays:
            raise ArgumentError(f"{mask} is to mask {array}, but the arrays are {', '.join(map(str, arrays))}")
    keys = [*arrays, *masks.values()]
    if twice := {str(key) for key in keys if keys.count(key) > 1}:
        raise ArgumentError(f"{', '.join(sorted(twice))}: provided twice, among arrays and masks")
