"""gunpowder's ``DeformAugment`` with one correction: its field is upsampled at the right places."""

from __future__ import annotations

import gunpowder as gp
import numpy as np
from scipy.ndimage import affine_transform

__all__ = ["CorrectedDeformAugment"]


class CorrectedDeformAugment(gp.DeformAugment):
    """Samples the field linearly at the voxel centers of every array."""

    def _DeformAugment__sample_transform(  # the name that Python gives gunpowder's private method
        self, transformation: gp.Array, output_spec: gp.ArraySpec, interpolate_order: int = 1
    ) -> gp.Array:
        spacing = np.array(transformation.spec.voxel_size, dtype=float)
        size = np.array(output_spec.voxel_size, dtype=float)
        # voxel centers in steps of the control points, which lie at corners of their grid
        first = (np.array(output_spec.roi.begin) + size / 2 - np.array(transformation.spec.roi.begin)) / spacing
        shape = tuple(output_spec.roi.shape / output_spec.voxel_size)
        sampled = np.stack(
            [
                affine_transform(field, size / spacing, first, shape, np.float32, order=1, mode="nearest")
                for field in transformation.data
            ]
        )
        # gunpowder turns positions of corners into voxel indices later
        sampled -= (size / 2).reshape(-1, 1, 1, 1).astype(np.float32)
        return gp.Array(sampled, gp.ArraySpec(output_spec.roi, output_spec.voxel_size, interpolatable=True))
