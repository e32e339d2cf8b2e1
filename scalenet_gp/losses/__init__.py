"""Losses of masked predictions, sums of them over kinds and over scales, and weights of classes.

Letters: B batch, C channels (classes), Z Y X voxels; two spatial axes will do as well.

Most losses are modules called with (prediction, target, mask, class_weights): three tensors (B, C, Z, Y, X), the mask
above 0 where the class of that channel is annotated, and None or (C,). What is not annotated counts neither above nor
below the fraction bar, whatever it holds; where nothing is, the loss is zero and so is its gradient.
:class:`MaskedLoss`, which new ones are built from, says what they share.

There are losses

- of probabilities of classes that a voxel can have together, from a Sigmoid: :class:`CrossEntropyDice`, the usual
  choice, of :class:`BinaryCrossEntropy` and :class:`Dice`; :class:`Tversky`, :class:`Focal`, :class:`Boundary`;
- of probabilities of classes that exclude one another, from a Softmax over channels: :class:`CrossEntropy`, and those
  above;
- of distances: :class:`DistanceRegression`;
- made of others: :class:`WeightedSum` of several on one output, :class:`DeepSupervision` of several outputs;
- of a distribution, as :class:`scalenet_gp.layers.VariationalBottleneck` makes it: :class:`KullbackLeibler`."""

from scalenet_gp.losses.class_weights import balanced_class_weights
from scalenet_gp.losses.cross_entropy import BinaryCrossEntropy, CrossEntropy
from scalenet_gp.losses.distance import Boundary, DistanceRegression
from scalenet_gp.losses.focal import Focal
from scalenet_gp.losses.kullback_leibler import KullbackLeibler
from scalenet_gp.losses.masked_loss import Annotated, FinalActivation, MaskedLoss, apply_activation, call_loss
from scalenet_gp.losses.options import LossOptions
from scalenet_gp.losses.overlap import Dice, Tversky
from scalenet_gp.losses.sums import CrossEntropyDice, DeepSupervision, WeightedSum

__all__ = [
    "Annotated",
    "BinaryCrossEntropy",
    "Boundary",
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
    "Tversky",
    "WeightedSum",
    "apply_activation",
    "balanced_class_weights",
    "call_loss",
]
