"""A gunpowder node that takes every batch from one of several volumes, drawn at random."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import fsum
from typing import Any, final

from gunpowder import Array, Batch, BatchRequest, ProviderSpec, RandomProvider

from scalenet_gp.errors import ArgumentError, PipelineError
from scalenet_gp.nodes.requests import request_generator
from scalenet_gp.nodes.samplers.weighted_samplers import check_weights

__all__ = ["RandomVolume", "VolumeDraw", "check_same_specs"]


class VolumeDraw:
    """The draw of one of several volumes for a request, and its record.

    Args:
        weights: the weights of the volumes, in any unit.
        replay: the text of ``array.attrs["location"]`` of an earlier batch; its volume is taken again.

    Raises:
        ArgumentError: weights that are negative or all 0; ``replay`` is not such a text, or names another volume.
    """

    def __init__(self, weights: Mapping[str, float], replay: str | None = None) -> None:
        check_weights("weights", weights, weights)
        if not any(weights.values()):
            raise ArgumentError(f"the weights {dict(weights)} are all 0")
        self.weights = dict(weights)
        self._replay = None if replay is None else _recorded(replay)
        if replay is not None and self._replay not in list(self.weights):
            raise ArgumentError(f"replay names the volume {self._replay!r}; there are {', '.join(self.weights)}")

    @property
    def first(self) -> str:
        """The name of the first volume that can be drawn."""
        return next(name for name, weight in self.weights.items() if weight)

    def name(self, request: BatchRequest, purpose: str) -> str:
        """Draw the name of a volume from the request's own random numbers."""
        if self._replay is not None:
            return str(self._replay)
        generator = request_generator(request, purpose)
        total = fsum(self.weights.values())
        shares = [weight / total for weight in self.weights.values()]
        return list(self.weights)[int(generator.choice(len(shares), p=shares))]

    def record(self, batch: Batch, name: str) -> Batch:
        """Add the name to the records of all arrays of a batch, and return it."""
        for key, array in list(batch.arrays.items()):
            record = {**json.loads(array.attrs.get("location", "{}")), "volume": name}
            batch.arrays[key] = Array(array.data, array.spec, {**array.attrs, "location": json.dumps(record)})
        return batch


def check_same_specs(expected: ProviderSpec, first: str, found: ProviderSpec, name: str) -> None:
    """Check that the arrays of a volume are like those of the first one.

    Raises:
        PipelineError: an array has another voxel size or type.
    """
    for key, spec in expected.array_specs.items():
        for what in ("voxel_size", "dtype", "interpolatable"):
            there, here = getattr(spec, what), getattr(found[key], what)
            if there != here:
                raise PipelineError(f"{what} of {key} is {there} in {first}, but {here} in {name}")


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
        self._volumes = VolumeDraw(weights, replay)
        super().__init__(probabilities=list(weights.values()))

    @property
    def weights(self) -> dict[str, float]:
        """The weights of the volumes, in any unit."""
        return self._volumes.weights

    def setup(self) -> None:
        """Announce the arrays that all volumes provide."""
        branches = self.get_upstream_providers()
        if len(branches) != len(self.weights):
            raise PipelineError(
                f"RandomVolume names {len(self.weights)} volumes ({', '.join(self.weights)}), "
                f"but {len(branches)} branches end in it"
            )
        super().setup()
        first = next(iter(self.weights))
        for name, branch in zip(self.weights, branches, strict=True):
            check_same_specs(self.spec, first, branch.spec, name)

    def provide(self, request: BatchRequest) -> Batch:
        """Draw a volume and ask its branch."""
        name = self._volumes.name(request, type(self).__name__)
        number = list(self.weights).index(name)
        return self._volumes.record(self.get_upstream_providers()[number].request_batch(request), name)


def _recorded(record: str) -> Any:
    try:
        return json.loads(record).get("volume")
    except (ValueError, TypeError, AttributeError) as error:
        raise ArgumentError(f'replay={record!r} is not a text of array.attrs["location"]') from error
