"""Options of losses in a run file, a union by ``kind``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from scalenet_gp.losses.centerline import CenterlineDice
from scalenet_gp.losses.cross_entropy import BinaryCrossEntropy, CrossEntropy
from scalenet_gp.losses.distance import Boundary, DistanceRegression
from scalenet_gp.losses.focal import Focal
from scalenet_gp.losses.overlap import Dice, Tversky
from scalenet_gp.losses.schedule import WeightOptions, weight_function
from scalenet_gp.losses.smoothed_boundaries import SmoothedBoundaries
from scalenet_gp.losses.sums import CrossEntropyDice, WeightedSum
from scalenet_gp.options import ComponentOptions, options_of, union_of

__all__ = ["BaseLossOptions", "LossOptions"]


class BaseLossOptions(ComponentOptions):
    """Abstract: the arguments of a loss of one output. :data:`LossOptions` is the union of all kinds.

    Example:
        >>> from pydantic import TypeAdapter
        >>> TypeAdapter(LossOptions).validate_python({"kind": "tversky", "alpha": 0.4}).build_loss((8, 8, 8)).alpha
        0.4
    """

    kind: str

    def build_loss(self, voxel_size: Sequence[float], exclusive: bool = False) -> nn.Module:
        """Return the loss of an output.

        Args:
            voxel_size: nm per spatial axis.
            exclusive: the output's channels exclude one another.
        """
        made: nn.Module = self.build()
        return made

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.build_loss((1.0, 1.0, 1.0))  # refuses arguments that are out of range
        return self


class _CrossEntropyDiceOptions(BaseLossOptions):
    def build_loss(self, voxel_size: Sequence[float], exclusive: bool = False) -> nn.Module:
        made: nn.Module = self.build(exclusive=exclusive)
        return made


class _BoundaryOptions(BaseLossOptions):
    def build_loss(self, voxel_size: Sequence[float], exclusive: bool = False) -> nn.Module:
        made: nn.Module = self.build(voxel_size=tuple(map(float, voxel_size)))
        return made


class WeightedSumOptions(BaseLossOptions):
    """Several losses of one output, added up.

    Attributes:
        losses: the losses, by any name.
        weights: the weight of each by its name: a number, or a list of weights at iterations. By default each has 1.
    """

    kind: Literal["weighted_sum"] = "weighted_sum"
    losses: Mapping[str, LossOptions] = Field(min_length=1)
    weights: Mapping[str, WeightOptions] | None = None

    def build_loss(self, voxel_size: Sequence[float], exclusive: bool = False) -> nn.Module:
        losses = {name: loss.build_loss(voxel_size, exclusive) for name, loss in self.losses.items()}
        if self.weights is None:
            return WeightedSum(losses)
        return WeightedSum(losses, {name: weight_function(weight) for name, weight in self.weights.items()})


class SmoothedBoundariesOptions(BaseLossOptions):
    """A loss of targets whose labels are smoothed along boundaries.

    Attributes:
        loss: the loss.
        sigma: standard deviation, in nm, of the distribution by which the voxels around each are weighted.
    """

    kind: Literal["smoothed_boundaries"] = "smoothed_boundaries"
    loss: LossOptions
    sigma: float = Field(gt=0)

    def build_loss(self, voxel_size: Sequence[float], exclusive: bool = False) -> nn.Module:
        return SmoothedBoundaries(self.loss.build_loss(voxel_size, exclusive), self.sigma, voxel_size)


_KINDS: dict[str, Any] = {
    "binary_cross_entropy": BinaryCrossEntropy,
    "cross_entropy": CrossEntropy,
    "dice": Dice,
    "tversky": Tversky,
    "focal": Focal,
    "centerline_dice": CenterlineDice,
    "distance_regression": DistanceRegression,
}
_CROSS_ENTROPY_DICE = options_of(
    CrossEntropyDice, "cross_entropy_dice", without=("exclusive",), base=_CrossEntropyDiceOptions
)
_OPTIONS = [_CROSS_ENTROPY_DICE, *(options_of(loss, kind, base=BaseLossOptions) for kind, loss in _KINDS.items())]
_OPTIONS.append(options_of(Boundary, "boundary", without=("voxel_size",), base=_BoundaryOptions))

if TYPE_CHECKING:
    LossOptions = BaseLossOptions
else:
    LossOptions = union_of([*_OPTIONS, WeightedSumOptions, SmoothedBoundariesOptions])
WeightedSumOptions.model_rebuild()
SmoothedBoundariesOptions.model_rebuild()
