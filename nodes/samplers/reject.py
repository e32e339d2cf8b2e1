"""A node that draws samples again until one holds enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
from gunpowder import ArrayKey, Batch, BatchFilter, BatchRequest, GraphKey
from gunpowder.profiling import Timing

from scalenet_gp.errors import ArgumentError, DataError, PipelineError
from scalenet_gp.nodes.requests import batch_seed, request_generator, set_seed

__all__ = ["Reject"]


@final
class Reject(BatchFilter):
    """Draw samples again until one has enough voxels in a mask, a node of a graph, or whatever ``accepts`` asks for.

    It takes the place of gunpowder's ``Reject``, and has its arguments. That one repeats a request with a seed as it
    is, gets the same sample, and never ends. This one gives try n the seed :func:`.batch_seed` of (seed, n), so a
    sample depends on the seed of its request alone: batches below a :class:`.Prefetch` are the same to the bit for any
    number of workers. The first try has the request's own seed.

    It stands downstream of the node that draws the location, and above ``Stack``, so that each sample is drawn again by
    itself. The number of samples that were rejected is kept as ``array.attrs["rejected"]`` of every array.

    A :class:`.MaskSampler` or :class:`.PointSampler` lays samples on voxels or points without drawing in vain.

    Args:
        mask: the array whose voxels above 0 count. It has to be requested.
        min_masked: the share of those voxels that a sample has to exceed.
        ensure_nonempty: the graph of which a sample has to hold a node. It has to be requested.
        reject_probability: the probability that a sample which does not do is rejected.
        accepts: returns whether a batch does; asked after ``mask`` and ``ensure_nonempty``.
        most_draws: the number of samples after which to give up.

    Raises:
        ArgumentError: nothing to decide by, or a number is out of its range.
        PipelineError: when the pipeline is built: mask or graph are not provided upstream. For a request: it asks for
            none of them.
        DataError: for a request: none of ``most_draws`` samples does.

    Example:
        >>> import gunpowder as gp
        >>> Reject(gp.ArrayKey("MASK"), min_masked=0.1).most_draws
        1000
    """

    def __init__(
        self,
        mask: ArrayKey | None = None,
        min_masked: float = 0.5,
        ensure_nonempty: GraphKey | None = None,
        reject_probability: float = 1.0,
        *,
        accepts: Callable[[Batch], bool] | None = None,
        most_draws: int = 1000,
    ) -> None:
        if mask is None and ensure_nonempty is None and accepts is None:
            raise ArgumentError("Reject has nothing to decide by; give it a mask, ensure_nonempty or accepts")
        if not 0 <= min_masked < 1:
            raise ArgumentError(f"min_masked is {min_masked!r}; no share of voxels exceeds that, write one in [0, 1)")
        if not 0 <= reject_probability <= 1:
            raise ArgumentError(f"reject_probability is {reject_probability!r}; a probability lies between 0 and 1")
        if most_draws < 1:
            raise ArgumentError(f"most_draws is {most_draws!r}; one sample has to be drawn at least")
        self.mask, self.min_masked, self.ensure_nonempty = mask, min_masked, ensure_nonempty
        self.reject_probability, self.accepts, self.most_draws = reject_probability, accepts, most_draws

    def setup(self) -> None:
        """Announce nothing new: arrays and graphs are those of upstream."""
        for key in self._needed():
            if key not in self.spec:
                raise PipelineError(f"Reject decides by {key}, which no node upstream provides")

    def provide(self, request: BatchRequest) -> Batch:
        """Draw samples until one does."""
        timing = Timing(self)
        timing.start()
        for key in self._needed():
            if key not in request:
                raise PipelineError(f"Reject decides by {key}, which is not requested; ask for it, too")
        generator = request_generator(request, type(self).__name__)
        most = 0.0
        for number in range(self.most_draws):
            upstream = request.copy()
            if number and upstream.is_deterministic():
                set_seed(upstream, batch_seed(request.random_seed, number))
            batch = self.get_upstream_provider().request_batch(upstream)
            share = 1.0 if self.mask is None else float(np.mean(batch[self.mask].data > 0))
            most = max(most, share)
            if self._does(batch, share) or generator.random() >= self.reject_probability:
                for array in batch.arrays.values():
                    array.attrs = {**array.attrs, "rejected": number}
                timing.stop()
                batch.profiling_stats.add(timing)
                return batch
        raise DataError(f"Reject gave up: none of {self.most_draws} samples {self._asked(most)}")

    def _needed(self) -> list[ArrayKey | GraphKey]:
        return [key for key in (self.mask, self.ensure_nonempty) if key is not None]

    def _does(self, batch: Batch, share: float) -> bool:
        return (
            (self.mask is None or share > self.min_masked)
            and (self.ensure_nonempty is None or batch[self.ensure_nonempty].num_vertices() > 0)
            and (self.accepts is None or self.accepts(batch))
        )

    def _asked(self, most: float) -> str:
        """Return the conditions, for messages."""
        asked = []
        if self.mask is not None:
            asked.append(f"has more than {self.min_masked:g} of its voxels in {self.mask} (the most was {most:.3g})")
        if self.ensure_nonempty is not None:
            asked.append(f"holds a node of {self.ensure_nonempty}")
        if self.accepts is not None:
            asked.append("is accepted by accepts")
        return " and ".join(asked)
