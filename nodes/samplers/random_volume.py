"""A gunpowder node that takes every batch from one of several volumes, drawn at random."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import fsum
from typing import Any, final

from gunpowder import Array, Batch, BatchRequest, RandomProvider

from scalenet_gp.errors import ArgumentError, PipelineError
from scalenet_gp.nodes.requests import request_generator
from scalenet_gp.nodes.samplers.weighted_samplers import check_weights

__all__ = ["RandomVolume"]


@final
class RandomVolume(RandomProvider):
    """Take every batch from one of several volumes::

        (hela, jurkat) + RandomVolume({"hela": 2, "jurkat": 1})

    Unlike gunpowder's ``RandomProvider`` it names them, draws from the request's own random numbers, finds differing
    voxel sizes when the pipeline is built, and records its draw. Each branch has a :class:`.SampleLocation` of its own.
    Arrays that a branch lacks are not provided.

    The name of the volume is kept as ``"volume"`` in the JSON text ``array.attrs["location"]`` of every array.

    Args:
        weights: the weights of the volumes, in any unit, in the order in which the branches stand before the node.
        replay: such a text; the batch is taken from the volume that it names.

    Raises:
        ArgumentError: weights that are negative or all 0; ``replay`` is not such a text, or names another volume.
        PipelineError: when the pipeline is built: another number of branches than names, or an array of another voxel
            size or type in another branch.

    Example:
        >>> RandomVolume({"hela": 2, "jurkat": 1}).weights
        {'hela': 2, 'jurkat': 1}
    """

    def __init__(self, weights: Mapping[str, float], *, replay: str | None = None) -> None:
        check_weights("weights", weights, weights)
        if not any(weights.values()):
            raise ArgumentError(f"the weights {dict(weights)} are all 0")
        self.weights = dict(weights)
        self._replay = None if replay is None else _recorded(replay)
        if replay is not None and self._replay not in list(self.weights):
            raise ArgumentError(f"replay names the volume {self._replay!r}; there are {', '.join(self.weights)}")
        super().__init__(probabilities=list(self.weights.values()))

    def setup(self) -> None:
        """Announce the arrays that all volumes provide."""
        branches = self.get_upstream_providers()
        if len(branches) != len(self.weights):
            raise PipelineError(
                f"RandomVolume names {len(self.weights)} volumes ({', '.join(self.weights)}), "
                f"but {len(branches)} branches end in it"
            )
        super().setup()
        for name, branch in zip(self.weights, branches, strict=True):
            for key, spec in self.spec.array_specs.items():
                for what in ("voxel_size", "dtype", "interpolatable"):
                    expected, found = getattr(spec, what), getattr(branch.spec[key], what)
                    if expected != found:
                        first = next(iter(self.weights))
                        raise PipelineError(f"{what} of {key} is {expected} in {first}, but {found} in {name}")

    def provide(self, request: BatchRequest) -> Batch:
        """Draw a volume and ask its branch."""
        names = list(self.weights)
        number = names.index(self._replay) if self._replay is not None else self._draw(request)
        batch = self.get_upstream_providers()[number].request_batch(request)
        for key, array in list(batch.arrays.items()):
            record = {**json.loads(array.attrs.get("location", "{}")), "volume": names[number]}
            batch.arrays[key] = Array(array.data, array.spec, {**array.attrs, "location": json.dumps(record)})
        return batch

    def _draw(self, request: BatchRequest) -> int:
        generator = request_generator(request, type(self).__name__)
        total = fsum(self.weights.values())
        shares = [weight / total for weight in self.weights.values()]
        return int(generator.choice(len(shares), p=shares))


def _recorded(record: str) -> Any:
    try:
        return json.loads(record).get("volume")
    except (ValueError, TypeError, AttributeError) as error:
        raise ArgumentError(f'replay={record!r} is not a text of array.attrs["location"]') from error
