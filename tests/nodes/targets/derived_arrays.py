"""Running a node that derives arrays from others, on arrays in memory."""

import numpy as np
from gunpowder import Array, ArrayKey, ArraySpec, Batch, BatchProvider, BatchRequest, Coordinate, Roi, build


class Held(BatchProvider):
    """Serves parts of arrays (..., z, y, x) that begin at ``begin``; zeros around them if they are ``unbounded``."""

    def __init__(self, arrays, voxel_size, begin=None, unbounded=False):
        self.arrays, self.voxel_size, self.unbounded = arrays, Coordinate(voxel_size), unbounded
        self.begin = Coordinate((0,) * len(voxel_size)) if begin is None else Coordinate(begin)
        self.asked = []

    def setup(self):
        dims = len(self.voxel_size)
        for key, data in self.arrays.items():
            roi = Roi(self.begin, self.voxel_size * Coordinate(data.shape[-dims:]))
            roi = Roi((None,) * dims, (None,) * dims) if self.unbounded else roi
            self.provides(key, ArraySpec(roi, self.voxel_size, interpolatable=False, dtype=data.dtype))

    def provide(self, request):
        self.asked.append(request.copy())
        batch = Batch()
        for key, asked in request.array_specs.items():
            spec = self.spec[key].copy()
            spec.roi = asked.roi
            dims, data = asked.roi.dims, self.arrays[key]
            low = (asked.roi.begin - self.begin) // self.voxel_size
            shape = asked.roi.shape // self.voxel_size
            before = [max(0, -b) for b in low]
            after = [max(0, b + n - size) for b, n, size in zip(low, shape, data.shape[-dims:], strict=True)]
            padded = np.pad(data, [(0, 0)] * (data.ndim - dims) + list(zip(before, after, strict=True)))
            parts = tuple(slice(b + p, b + p + n) for b, p, n in zip(low, before, shape, strict=True))
            batch[key] = Array(np.ascontiguousarray(padded[(..., *parts)]), spec)
        return batch


def request(**rois):
    """A request for arrays by name."""

    asked = BatchRequest()
    for name, roi in rois.items():
        asked[ArrayKey(name)] = ArraySpec(roi=roi)
    return asked


def provided(chain, **rois):
    """The data of every array asked for, by name."""
    with build(chain) as pipeline:
        batch = pipeline.request_batch(request(**rois))
    return {str(key): array.data for key, array in batch.arrays.items()}
