"""A node that multiplies a mask by weights of its voxels."""

from __future__ import annotations

from typing import final

import gunpowder as gp
import numpy as np

from scalenet_gp.errors import PipelineError

__all__ = ["WeighMask"]


@final
class WeighMask(gp.BatchFilter):
    """Multiply a mask by the weights of its voxels, as :class:`.DistanceWeights` makes them.

    The mask becomes float32. It is still 0 where the annotation is unknown.

    Args:
        mask: the array to multiply, (channel, z, y, x).
        weights: (1, z, y, x), of the same voxel size.

    Raises:
        PipelineError: when the pipeline is built: one of the two is not provided upstream, or they have different
            voxel sizes.

    Example:
        >>> WeighMask(gp.ArrayKey("MASK"), gp.ArrayKey("WEIGHTS")).mask
        MASK
    """

    def __init__(self, mask: gp.ArrayKey, weights: gp.ArrayKey) -> None:
        self.mask, self.weights = mask, weights

    def setup(self) -> None:
        """Announce the weighed mask."""
        for key in (self.mask, self.weights):
            if key not in self.spec:
                raise PipelineError(f"{self.name()} reads {key}, which no node upstream provides")
        sizes = [tuple(self.spec[key].voxel_size) for key in (self.mask, self.weights)]
        if sizes[0] != sizes[1]:
            raise PipelineError(f"{self.name()}: {self.mask} has voxels of {sizes[0]}, {self.weights} of {sizes[1]}")
        spec = self.spec[self.mask].copy()
        spec.dtype = np.dtype(np.float32)
        self.updates(self.mask, spec)
        self.enable_autoskip()

    def prepare(self, request: gp.BatchRequest) -> gp.BatchRequest:
        """Ask for mask and weights of the same ROI."""
        roi = request[self.mask].roi
        return gp.BatchRequest({key: gp.ArraySpec(roi=roi) for key in (self.mask, self.weights)})

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> gp.Batch:
        """Return the mask times the weights."""
        mask, roi = batch[self.mask], request[self.mask].roi
        spec = mask.spec.copy()
        spec.dtype = np.dtype(np.float32)
        made = gp.Batch()
        weights = batch[self.weights].crop(roi, copy=False).data
        made[self.mask] = gp.Array(mask.crop(roi, copy=False).data * weights, spec, dict(mask.attrs))
        made[self.mask].spec.roi = roi.copy()
        return made
