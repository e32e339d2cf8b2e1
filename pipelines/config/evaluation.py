"""The part ``evaluation`` of a run file: how a prediction is compared with the annotation."""

from __future__ import annotations

from pydantic import Field

from scalenet_gp.options import Options
from scalenet_gp.pipelines.config.region import Region

__all__ = ["EvaluationConfig"]


class EvaluationConfig(Options):
    """Comparison of a trained network's prediction with the annotation.

    Attributes:
        region: the part of the annotation to compare in; it shares nothing with that to learn from.
        threshold: probability from which a voxel counts as the class, in validation too.
        allow_training_region: allow a region that shares annotated voxels with ``training.region``: scores of voxels
            that were learned from, or of another volume than that of the training.

    Example:
        >>> EvaluationConfig.create(region={"begin": [0, 0, 0], "end": [800, None, None]}).threshold
        0.5
    """

    region: Region
    threshold: float = Field(0.5, gt=0, lt=1)
    allow_training_region: bool = False
