"""Losses of masked predictions, sums of them over kinds and over scales, and weights of classes.

Letters: B batch, C channels (classes), Z Y X voxels; two spatial axes will do as well.

Most losses are modules called with (prediction, target, mask, class_weights): three tensors (B, C, Z, Y, X), the mask
above 0 where the class of that channel is annotated, and None or (C,). The value of the mask is the weight of the
voxel, as :class:`scalenet_gp.nodes.ClassWeights` makes it. Voxels that are not annotated count neither in the numerator
nor in the denominator, whatever values they hold. If no voxel is annotated, the loss and its gradient are zero.
:class:`MaskedLoss` is the base of these losses.

There are losses

- of classes that can overlap, from a Sigmoid: :class:`CrossEntropyDice`, the usual choice, which is the sum of
  :class:`BinaryCrossEntropy` and :class:`Dice`; :class:`Tversky`, :class:`Focal`, :class:`Boundary`,
  and :class:`CenterlineDice` for thin structures;
- of classes that exclude one another, from a Softmax over channels: :class:`CrossEntropy`, and those above;
- of distances: :class:`DistanceRegression`;
- of a distribution, as :class:`scalenet_gp.layers.VariationalBottleneck` makes it: :class:`KullbackLeibler`;
- made of others: :class:`WeightedSum` of several losses of one output, :class:`SmoothedBoundaries` of softer targets,
  :class:`DeepSupervision` of several outputs.

With the argument ``activation``, a loss is computed from logits, as a :class:`scalenet_gp.training.Trainer` does."""

from scalenet_gp.losses.centerline import CenterlineDice
from scalenet_gp.losses.class_weights import balanced_class_weights
from scalenet_gp.losses.cross_entropy import BinaryCrossEntropy, CrossEntropy
from scalenet_gp.losses.distance import Boundary, DistanceRegression
from scalenet_gp.losses.focal import Focal
from scalenet_gp.losses.kullback_leibler import KullbackLeibler
from scalenet_gp.losses.masked_loss import Annotated, FinalActivation, MaskedLoss, apply_activation, call_loss
from scalenet_gp.losses.options import LossOptions
from scalenet_gp.losses.overlap import Dice, Tversky
from scalenet_gp.losses.schedule import WeightAt, WeightOptions, weight_function
from scalenet_gp.losses.smoothed_boundaries import SmoothedBoundaries
from scalenet_gp.losses.sums import CrossEntropyDice, DeepSupervision, NamedLosses, WeightedSum

__all__ = [
    "Annotated",
    "BinaryCrossEntropy",
    "Boundary",
    "CenterlineDice",
    "CrossEntropy",
    "CrossEntropyDice",
    "DeepSupervision",
    "Dice",
    "DistanceRegression",
    "FinalActivation",
    "Focal",
    "KullbackLeibler",
    "LossOptions",
    "MaskedLoss",
    "NamedLosses",
    "SmoothedBoundaries",
    "Tversky",
    "WeightAt",
    "WeightOptions",
    "WeightedSum",
    "apply_activation",
    "balanced_class_weights",
    "call_loss",
    "weight_function",
]
