"""The share of the context of samples that the raw volume holds."""

from __future__ import annotations

import numpy as np
from funlib.geometry import Roi

from scalenet_gp.graph import Plan
from scalenet_gp.pipelines.data.dataset import Dataset

__all__ = ["context_shares"]

_PLACES = 65
"""Places along each axis over which the share of existing context is averaged."""


def context_shares(dataset: Dataset, plan: Plan, labelled: Roi, middle: float = 1.0) -> dict[str, float]:
    """Return the mean share of each input that lies within the raw volume, over places in the annotated part.

    Along each axis, places are independent of those along the others, so the mean is the product of means.

    Args:
        dataset: the source.
        plan: the inputs of a sample.
        labelled: the annotated part, world units.
        middle: part of each input along each axis that counts, around its middle: above 0, up to 1.
    """
    raw = dataset.raw.levels[0]
    finest = plan.outputs[dataset.finest]
    shares = {}
    for name, roi in plan.inputs.items():
        share = 1.0
        for axis in range(roi.dims):
            low = int(labelled.begin[axis])
            high = max(low, int(labelled.end[axis] - finest.shape[axis]))
            begin = np.linspace(low, high, _PLACES) + int(roi.begin[axis] - finest.begin[axis])
            length = int(roi.shape[axis]) * middle
            begin += (int(roi.shape[axis]) - length) / 2
            end = begin + length
            first = float(dataset.corner[axis])
            last = first + float(raw.shape[axis] * raw.voxel_size[axis] / dataset.world.unit)
            inside = np.clip(np.minimum(end, last) - np.maximum(begin, first), 0, None)
            share *= float(inside.mean() / length)
        shares[name] = share
    return shares
