"""A request that is cheap to copy."""

from __future__ import annotations

from copy import deepcopy
from typing import Self, final

from gunpowder import BatchRequest

from scalenet_gp.nodes.requests.cheap_copy_spec import CheapCopySpec

__all__ = ["CheapCopyRequest"]


@final
class CheapCopyRequest(BatchRequest):
    """A gunpowder request whose ``copy`` copies what is ever changed in place, and shares the rest.

    gunpowder copies a request three times at every node, by ``deepcopy``; in a long chain with several arrays that
    takes longer than reading does. This copy behaves the same: its specs and their ROIs are its own, and its seed
    changes as a ``BatchRequest``'s does, so that a seeded chain draws the same numbers. Keys, voxel sizes and types,
    which do not change, are shared. Graph specs are copied as gunpowder does.
    """

    @classmethod
    def of(cls, request: BatchRequest, random_seed: int | None = None) -> Self:
        """A light copy of ``request``, which stays as it is, with a seed of its own."""
        light = cls(random_seed=random_seed)
        light._take_specs(request)
        return light

    def copy(self) -> Self:
        copied = type(self)(random_seed=self._random_seed)
        copied._take_specs(self)
        copied._update_random_seed()
        return copied

    def _take_specs(self, request: BatchRequest) -> None:
        self.array_specs = {key: CheapCopySpec.of(spec) for key, spec in request.array_specs.items()}
        self.graph_specs = deepcopy(request.graph_specs) if request.graph_specs else {}
