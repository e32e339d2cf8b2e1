"""A shift of content by less than the common lattice, which travels in a request.

A sampler places samples at every voxel of the finest array, but gunpowder moves ROIs by whole voxels of all arrays. The
remainder is asked of a node that resamples anyway. It is an array of its own, :data:`SUBVOXEL_SHIFT`, which lies
outside space: the node that can apply the shift provides it, so gunpowder carries the request there through any nodes
in between, and refuses it where no node provides it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import numpy as np
from gunpowder import Array, ArrayKey, ArraySpec, Batch, BatchFilter, BatchProvider, BatchRequest, Coordinate

from scalenet_gp.errors import PipelineError
from scalenet_gp.nodes.requests.cheap_copy import CheapCopySpec

__all__ = [
    "SUBVOXEL_SHIFT",
    "answer_shift",
    "check_shift",
    "offer_shift",
    "request_shift",
    "shift_is_offered",
    "take_shift",
]

SUBVOXEL_SHIFT = ArrayKey("SUBVOXEL_SHIFT")
"""The array that a node provides if it can read content further on by any number of world units."""


@final
class _ShiftSpec(CheapCopySpec):
    """The spec of a request for :data:`SUBVOXEL_SHIFT`.

    Attributes:
        shift: world units per spatial axis.
    """

    def __init__(self, shift: Iterable[int]) -> None:
        self.shift = tuple(int(along) for along in shift)
        super().__init__(nonspatial=True)


def offer_shift(node: BatchFilter) -> None:
    """Announce, in a node's ``setup``, that it applies the shift. The nearest such node upstream does."""
    if SUBVOXEL_SHIFT in node.spec:
        node.updates(SUBVOXEL_SHIFT, node.spec[SUBVOXEL_SHIFT])
    else:
        node.provides(SUBVOXEL_SHIFT, ArraySpec(nonspatial=True))


def shift_is_offered(node: BatchProvider) -> bool:
    """Return True if a node upstream applies the shift to everything that ``node`` gets.

    Such a node is searched through nodes with one upstream each: beyond a merge, it would move some arrays only.
    """
    while len(providers := node.get_upstream_providers()) == 1:
        (node,) = providers
        # a merge provides what one of its branches does
        if SUBVOXEL_SHIFT in node.provided_items and len(node.get_upstream_providers()) < 2:
            return True
    return False


def request_shift(request: BatchRequest, shift: Iterable[int]) -> tuple[int, ...]:
    """Add a shift (world units per axis) to a request, on top of one that it has. Return their sum."""
    further = tuple(shift)
    before = request[SUBVOXEL_SHIFT].shift if SUBVOXEL_SHIFT in request else (0,) * len(further)
    spec = _ShiftSpec(old + new for old, new in zip(before, further, strict=True))
    request[SUBVOXEL_SHIFT] = spec
    return spec.shift


def take_shift(request: BatchRequest) -> Coordinate | None:
    """Remove the shift from a request and return it, in the ``prepare`` of the node that applies it. None: no shift."""
    if SUBVOXEL_SHIFT not in request:
        return None
    shift = Coordinate(request[SUBVOXEL_SHIFT].shift)
    del request[SUBVOXEL_SHIFT]
    return shift


def answer_shift(batch: Batch, shift: Coordinate) -> None:
    """Note in a batch that the shift was applied, in the ``process`` of the node that applied it."""
    batch[SUBVOXEL_SHIFT] = Array(np.array(shift), ArraySpec(nonspatial=True))


def check_shift(batch: Batch, shift: Iterable[int], request: BatchRequest, node: str) -> None:
    """Check that the shift that ``node`` asked for was applied, and answer the part that was asked of ``node`` itself.

    Raises:
        PipelineError: it was not.
    """
    asked = tuple(shift)
    applied = batch[SUBVOXEL_SHIFT].data.tolist() if SUBVOXEL_SHIFT in batch else None
    # a Stack in between answers once for each sample
    if applied is None or not np.all(np.reshape(applied, (-1, len(asked))) == asked):
        raise PipelineError(
            f"{node} asked for content {asked} world units further on, upstream applied {applied}; "
            "a node in between makes requests of its own: put it upstream of the deformation"
        )
    if SUBVOXEL_SHIFT in request:
        answer_shift(batch, Coordinate(request[SUBVOXEL_SHIFT].shift))
