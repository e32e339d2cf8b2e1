"""A test source whose content tells where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gunpowder import Array, ArrayKey, ArraySpec, Batch, BatchProvider, BatchRequest, Coordinate, Roi

Content = Callable[[np.ndarray], np.ndarray]
"""World positions of voxel centres, (D, Z, Y, X) -> the voxels, (..., Z, Y, X)."""


@dataclass(frozen=True)
class Field:
    """An array that is a function of the world position of its voxel centres."""

    voxel_size: Sequence[int]
    content: Content
    interpolatable: bool | None


def ramp(voxel_size: Sequence[int]) -> Field:
    """(D, Z, Y, X) float64: the world coordinates of the voxel centres. Linear, so interpolation keeps them exact."""
    return Field(voxel_size, lambda centres: centres, interpolatable=True)


def label_ramp(voxel_size: Sequence[int]) -> Field:
    """(D, Z, Y, X) int64 labels: twice the world coordinates of the voxel centres, which is a whole number."""
    return Field(voxel_size, lambda centres: (2 * centres).astype(np.int64), interpolatable=False)


class RampSource(BatchProvider):
    """Serves every field in any ROI on its lattice.

    Args:
        fields: the arrays to serve.
        roi: where they are defined; everywhere if None.
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
            batch[key] = Array(self.fields[key].content(voxel_centres(spec.roi, served.voxel_size)), served)
        return batch


def voxel_centres(roi: Roi, voxel_size: Sequence[int]) -> np.ndarray:
    """The world coordinates of the voxel centres in ``roi``: (D, Z, Y, X) float64."""
    axes = [
        begin + (np.arange(length // size) + 0.5) * size
        for begin, length, size in zip(roi.begin, roi.shape, voxel_size, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"))
