"""A node that makes batches of several samples, with the records of each."""

from __future__ import annotations

from operator import index
from typing import final

import gunpowder as gp
import numpy as np
from gunpowder.profiling import Timing

from scalenet_gp.errors import ArgumentError
from scalenet_gp.nodes.requests import batch_seed, set_seed

__all__ = ["Stack"]


@final
class Stack(gp.Stack):
    """Request several samples and stack their arrays along a new first axis: gunpowder's ``Stack``, with two changes.

    gunpowder drops the records of augmentations in ``array.attrs``. Here every entry is kept, as a list with one value
    for each sample (None for a sample without it). And sample i of a seeded request depends on the seed and on i alone,
    not on the numbers that nodes upstream draw from the global generators of Python and numpy. So processes that train
    together share each batch: with N samples each, rank r makes those from number r * N on, ``Stack(N, r * N)``, and
    together they make the batch of ``Stack(R * N)`` in one process.

    Args:
        num_repetitions: the number of samples.
        first: the number of the first one.

    Raises:
        ArgumentError: fewer than one sample, or a number below 0.
        ValueError: for a request: the samples differ in shape.

    Example:
        >>> import gunpowder as gp
        >>> import numpy as np
        >>> from scalenet_gp.nodes import MultiscaleSource
        >>> from scalenet_gp.volumes import MultiscaleImage
        >>> raw = gp.ArrayKey("RAW")
        >>> volume = MultiscaleImage.from_arrays([np.ones((4, 4, 4), np.uint8)], [(8, 8, 8)])
        >>> with gp.build(MultiscaleSource(volume, {raw: (8, 8, 8)}) + Stack(2)) as chain:
        ...     batch = chain.request_batch(gp.BatchRequest({raw: gp.Roi((0, 0, 0), (32, 32, 32))}))
        >>> batch[raw].data.shape
        (2, 1, 4, 4, 4)
    """

    def __init__(self, num_repetitions: int, first: int = 0) -> None:
        if index(num_repetitions) < 1:
            raise ArgumentError(f"num_repetitions is {num_repetitions}; a batch has one sample at least")
        if index(first) < 0:
            raise ArgumentError(f"first is {first}; samples are numbered from 0")
        super().__init__(num_repetitions)
        self.first = first

    def provide(self, request: gp.BatchRequest) -> gp.Batch:
        samples = []
        for number in range(self.first, self.first + self.num_repetitions):
            upstream = request.copy()
            if upstream.is_deterministic():
                set_seed(upstream, batch_seed(request.random_seed, number))
            samples.append(self.get_upstream_provider().request_batch(upstream))
        timing = Timing(self)
        timing.start()
        batch = gp.Batch()
        for sample in samples:
            batch.profiling_stats.merge_with(sample.profiling_stats)
        for key, asked in request.array_specs.items():
            if asked.placeholder:
                continue
            arrays = [sample[key] for sample in samples]
            names = dict.fromkeys(name for array in arrays for name in array.attrs)
            attrs = {name: [array.attrs.get(name) for array in arrays] for name in names}
            batch[key] = gp.Array(np.stack([array.data for array in arrays]), arrays[0].spec.copy(), attrs)
        for key, wanted in request.graph_specs.items():
            if not wanted.placeholder:
                batch[key] = samples[0][key]
        timing.stop()
        batch.profiling_stats.add(timing)
        return batch
