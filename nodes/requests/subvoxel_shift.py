"""A shift of content by less than the common lattice, which travels in a request.

A sampler places samples at every voxel of the finest array, but gunpowder moves ROIs by whole voxels of all arrays. The
remainder is asked of a node that resamples anyway. It is an array outside space, with a key of its own for every such
node (:func:`shift_key`): the node provides it, so gunpowder carries the request there through any nodes in between, and
refuses it where no node provides it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import final

import numpy as np
from gunpowder import (
    Array,
    ArrayKey,
    ArraySpec,
    Batch,
    BatchFilter,
    BatchProvider,
    BatchRequest,
    Coordinate,
    RandomLocation,
)

from scalenet_gp.errors import PipelineError
from scalenet_gp.nodes.requests.cheap_copy import CheapCopySpec

__all__ = [
    "answer_shift",
    "check_shift",
    "offer_shift",
    "offered_shift",
    "request_shift",
    "shift_key",
    "take_shift",
]

_NAME = "SUBVOXEL_SHIFT_"
_numbers = itertools.count()


@final
class _ShiftSpec(CheapCopySpec):
    """The spec of a request for a shift.

    Attributes:
        shift: world units per spatial axis.
    """

    def __init__(self, shift: Iterable[int]) -> None:
        self.shift = tuple(int(along) for along in shift)
        super().__init__(nonspatial=True)


def shift_key() -> ArrayKey:
    """Return the key of a new node's shift. Branches that are merged each have one."""
    return ArrayKey(f"{_NAME}{next(_numbers)}")


def offer_shift(node: BatchFilter, key: ArrayKey) -> None:
    """Announce, in a node's ``setup``, that it applies the shift ``key``."""
    node.provides(key, ArraySpec(nonspatial=True))


def offered_shift(node: BatchProvider) -> ArrayKey | None:
    """Return the shift of the nearest node upstream that applies one to everything that ``node`` gets, or None.

    Such a node is searched through nodes with one upstream each: beyond a merge, it would move some arrays only.

    Raises:
        PipelineError: a gunpowder ``RandomLocation`` is in between; it takes every request for one of a ROI.
    """
    below, random_location = node, False
    while len(providers := node.get_upstream_providers()) == 1:
        (node,) = providers
        random_location = random_location or isinstance(node, RandomLocation)
        if len(node.get_upstream_providers()) < 2:  # a merge provides what one of its branches does
            for key in node.provided_items:
                if not key.identifier.startswith(_NAME):
                    continue
                if random_location:
                    raise PipelineError(
                        f"a RandomLocation is between {node.name()} and {below.name()}, which draws the location "
                        f"itself: leave RandomLocation out; the order is {node.name()}, then {below.name()}"
                    )
                return key
    return None


def request_shift(request: BatchRequest, key: ArrayKey, shift: Iterable[int]) -> tuple[int, ...]:
    """Add a shift (world units per axis) to a request, on top of one that it has. Return their sum."""
    further = tuple(shift)
    before = request[key].shift if key in request else (0,) * len(further)
    spec = _ShiftSpec(old + new for old, new in zip(before, further, strict=True))
    request[key] = spec
    return spec.shift


def take_shift(request: BatchRequest, key: ArrayKey) -> Coordinate | None:
    """Remove the shift from a request and return it, in the ``prepare`` of the node that applies it. None: no shift."""
    if key not in request:
        return None
    shift = Coordinate(request[key].shift)
    del request[key]
    return shift


def answer_shift(batch: Batch, key: ArrayKey, shift: Coordinate) -> None:
    """Note in a batch that the shift was applied, in the ``process`` of the node that applied it."""
    batch[key] = Array(np.array(shift), ArraySpec(nonspatial=True))


def check_shift(batch: Batch, key: ArrayKey, shift: Iterable[int], request: BatchRequest, node: str) -> None:
    """Check that the shift that ``node`` asked for was applied, and answer the part that was asked of ``node`` itself.

    Raises:
        PipelineError: it was not.
    """
    asked = tuple(shift)
    applied = batch[key].data.tolist() if key in batch else None
    # a Stack in between answers once for each sample
    if applied is None or not np.all(np.reshape(applied, (-1, len(asked))) == asked):
        raise PipelineError(
            f"{node} asked for content {asked} world units further on, upstream applied {applied}; "
            "a node in between makes requests of its own: put it upstream of the deformation"
        )
    if key in request:
        answer_shift(batch, key, Coordinate(request[key].shift))
