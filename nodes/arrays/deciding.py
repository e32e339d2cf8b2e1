"""Arrays and graphs that nodes upstream decide by, and that a request therefore has to name."""

from __future__ import annotations

from functools import reduce

import gunpowder as gp
from funlib.geometry import Roi

__all__ = ["DecidingItems"]


class DecidingItems:
    """The masks and graphs by which ``RandomLocation`` and ``Reject`` choose samples, ours or gunpowder's.

    These nodes look for them in the request that reaches them. A node that makes requests of its own adds them.

    Args:
        node: the node that makes requests, set up.

    Example:
        >>> DecidingItems(gp.RandomLocation(mask=gp.ArrayKey("MASK"), min_masked=0.5)).keys
        (MASK,)
    """

    def __init__(self, node: gp.BatchProvider) -> None:
        self.keys: tuple[gp.ArrayKey | gp.GraphKey, ...] = tuple(dict.fromkeys(_keys(node)))

    def extend(self, request: gp.BatchRequest, rois: list[Roi], spec: gp.ProviderSpec) -> None:
        """Ask for those that a request lacks, in the union of ROIs.

        Args:
            request: the request to extend.
            rois: of the outputs that are computed.
            spec: of the node upstream, for the voxel sizes of masks.
        """
        for key in self.keys:
            if key in request or key not in spec:
                continue
            roi = reduce(Roi.union, rois)
            if isinstance(key, gp.GraphKey):
                request[key] = gp.GraphSpec(roi=roi)
            else:
                request[key] = gp.ArraySpec(roi=roi.snap_to_grid(spec[key].voxel_size, mode="grow"))


def _keys(node: gp.BatchProvider) -> list[gp.ArrayKey | gp.GraphKey]:
    """Return the keys of ``node`` and of all nodes upstream."""
    found = []
    if hasattr(node, "min_masked"):
        found += [key for key in (node.mask, node.ensure_nonempty) if key is not None]
    return found + [key for upstream in node.get_upstream_providers() for key in _keys(upstream)]
