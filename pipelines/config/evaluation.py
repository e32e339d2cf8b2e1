"""The part ``evaluation`` of a run file: how a prediction is compared with the annotation."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated

from pydantic import Field, field_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Length, Options
from scalenet_gp.pipelines.config.region import Region

__all__ = ["EvaluationConfig"]


class EvaluationConfig(Options):
    """Comparison of a trained network's prediction with the annotation.

    Attributes:
        region: the part of the annotation to compare in, in sources that do not say their use; it shares nothing with
            that to learn from. Not needed where sources say ``use: evaluate``. Without either, a run ends with the
            training.
        threshold: probability from which a voxel counts as the class, in validation too. Of exclusive classes, the most
            probable one counts instead.
        allow_training_region: allow a region that shares annotated voxels with ``training.region``: scores of voxels
            that were learned from, or of another volume than that of the training.
        groups: groups of classes that exclude each other, by name, as in ``cell_kind: [mito_neuron, mito_glia]``: the
            class of a group that is predicted highest is compared with the true one, voxel by voxel and object by
            object.
        smallest_object: nm; an object counts if it is as large as a cube with this edge, a square in two dimensions.
            It leaves out what the border of the region cuts off of an object.
        boundary_tolerance: nm; the boundary of a class or of an object counts as found within this distance of the true
            one, by the centres of voxels. Twice the longest edge of a voxel unless given.

    Example:
        >>> EvaluationConfig.create(region={"begin": [0, 0, 0], "end": [800, None, None]}).threshold
        0.5
    """

    region: Region | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    allow_training_region: bool = False
    groups: dict[str, Annotated[tuple[str, ...], Field(min_length=2)]] = Field(default_factory=dict)
    smallest_object: Length = Fraction(100)
    boundary_tolerance: Length | None = None

    @field_validator("groups")
    @classmethod
    def _once(cls, groups: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, classes in groups.items():
            if len(set(classes)) < len(classes):
                raise ConfigError(f"every class is in a group once; {name} repeats one: {', '.join(classes)}")
        return groups

    @field_validator("smallest_object", "boundary_tolerance")
    @classmethod
    def _not_below_zero(cls, length: Fraction | None) -> Fraction | None:
        if length is not None and length < 0:
            raise ConfigError("it has to be 0 or more")
        return length
