"""A test source whose content tells the world position of each voxel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gunpowder import Array, ArrayKey, ArraySpec, Batch, BatchProvider, BatchRequest, Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.testing import voxel_centers

__all__ = ["Content", "Field", "RampSource", "label_ramp", "ramp"]

Content = Callable[[NDArray[np.float64]], NDArray[Any]]
"""World positions of voxel centers, (D, Z, Y, X) -> the voxels, (..., Z, Y, X)."""


@dataclass(frozen=True)
class Field:
    """An array that is a function of the world position of its voxel centers.

    Attributes:
        voxel_size: in world units.
        content: makes the voxels, (..., Z, Y, X), from the world positions of their centers, (D, Z, Y, X).
        interpolatable: as in :class:`gunpowder.ArraySpec`.

    Example:
        >>> import numpy as np
        >>> Field((8, 8), lambda centers: np.sin(centers).sum(axis=0), interpolatable=True).voxel_size
        (8, 8)
    """

    voxel_size: Sequence[int]
    content: Content
    interpolatable: bool | None


def ramp(voxel_size: Sequence[int]) -> Field:
    """Return a field (D, Z, Y, X) float64: the world coordinates of the voxel centers. Interpolation keeps them."""
    return Field(voxel_size, lambda centers: centers, interpolatable=True)


def label_ramp(voxel_size: Sequence[int]) -> Field:
    """Return a field (D, Z, Y, X) of int64 labels: twice the world coordinates of the voxel centers, a whole number."""
    return Field(voxel_size, lambda centers: (2 * centers).astype(np.int64), interpolatable=False)


class RampSource(BatchProvider):
    """Serves every field in any ROI on its lattice.

    Args:
        fields: the arrays to serve.
        roi: the ROI in which they are defined; unbounded if ``None``.

    Attributes:
        requests: copies of the requests that arrived.

    Example:
        >>> import gunpowder as gp
        >>> raw = gp.ArrayKey("RAMP")
        >>> source = RampSource({raw: ramp((8, 8))})
        >>> with gp.build(source):
        ...     source.request_batch(gp.BatchRequest({raw: gp.ArraySpec(gp.Roi((0, 16), (8, 16)))}))[raw].data[1]
        array([[20., 28.]])
    """

    def __init__(self, fields: Mapping[ArrayKey, Field], roi: Roi | None = None) -> None:
        self.fields = dict(fields)
        self.roi = roi
        self.requests: list[BatchRequest] = []

    def setup(self) -> None:
        for key, field in self.fields.items():
            dims = len(field.voxel_size)
            everywhere = Roi((None,) * dims, (None,) * dims)
            roi = everywhere if self.roi is None else self.roi.snap_to_grid(Coordinate(field.voxel_size), mode="shrink")
            self.provides(key, ArraySpec(roi, field.voxel_size, interpolatable=field.interpolatable))

    def provide(self, request: BatchRequest) -> Batch:
        self.requests.append(request.copy())
        batch = Batch()
        for key, spec in request.array_specs.items():
            served = self.spec[key].copy()
            served.roi = spec.roi.copy()
            batch[key] = Array(self.fields[key].content(voxel_centers(spec.roi, served.voxel_size)), served)
        return batch
