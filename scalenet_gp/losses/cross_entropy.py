"""Cross-entropies: of classes that a voxel can have together, and of classes that exclude one another."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn import functional

from scalenet_gp.errors import ArgumentError
from scalenet_gp.losses.masked_loss import Annotated, MaskedLoss, ratio

__all__ = ["BinaryCrossEntropy", "CrossEntropy"]

_ROUNDING = 0.01
"""The largest error of a sum of probabilities: that of a softmax in bfloat16."""


@final
class BinaryCrossEntropy(MaskedLoss):
    """The mean binary cross-entropy of the annotated voxels, in nats, over all channels together.

    Args:
        label_smoothing: the share s of a target that is replaced by 0.5, so that it lies in [s/2, 1 - s/2] (Szegedy et
            al. 2016, arXiv 1512.00567, for two classes).

    Raises:
        ArgumentError: ``label_smoothing`` is not in [0, 1).

    Example:
        >>> import torch
        >>> half, one = torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 1, 2, 2)
        >>> round(BinaryCrossEntropy()(half, one, one).item(), 3)
        0.693
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = _check_smoothing(label_smoothing)

    def compute(self, known: Annotated) -> Tensor:
        target = known.target
        if self.label_smoothing:
            target = (target + self.label_smoothing * (0.5 - target)).masked_fill(~known.mask, 0)
        if known.logits is None:
            return known.mean(functional.binary_cross_entropy(known.prediction, target, reduction="none"))
        losses = -(target * known.log_present() + (1 - target) * known.log_absent())
        return known.mean(losses.masked_fill(~known.mask, 0))


@final
class CrossEntropy(MaskedLoss):
    """The mean cross-entropy, in nats, of the voxels whose channels are all annotated.

    Prediction and target are probabilities that sum to 1 over the channels of a voxel. So the network ends in a Softmax
    over channels, and targets are mostly one-hot. With class weights, the weight of a voxel is the mean of the weights
    of classes, weighted by the (smoothed) target. So it is with the weights of voxels, one for each channel.

    Args:
        label_smoothing: the share of a target that is spread evenly over the classes (Szegedy et al. 2016, arXiv
            1512.00567).

    Raises:
        ArgumentError: ``label_smoothing`` is not in [0, 1); when called: probabilities of an annotated voxel do not sum
            to 1; also as :class:`MaskedLoss` says.

    Example:
        >>> import torch
        >>> half, one = torch.full((1, 2, 2, 2), 0.5), torch.ones(1, 2, 2, 2)
        >>> round(CrossEntropy()(half, half, one).item(), 3)
        0.693
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = _check_smoothing(label_smoothing)

    def compute(self, known: Annotated) -> Tensor:
        prediction, target = known.prediction, known.target
        annotated = known.mask.all(dim=1, keepdim=True)
        for what, values in (("prediction", prediction), ("target", target)):
            _check_sums(what, values.detach().sum(dim=1, keepdim=True).where(annotated, 1))
        classes = prediction.shape[1]
        weights = (target + self.label_smoothing * (1 / classes - target)).masked_fill(~annotated, 0)
        weights = known.weigh(weights)
        if known.class_weights is not None:
            weights = weights * known.class_weights.view(classes, *(1,) * (prediction.ndim - 2))
        return ratio((weights * -known.log_present()).sum(), weights.sum())


def _check_sums(what: str, sums: Tensor) -> None:
    if not ((sums - 1).abs() <= _ROUNDING).all():
        raise ArgumentError(
            f"the annotated part of the {what} has to sum to 1 over the channels, but sums lie between "
            f"{sums.min().item():g} and {sums.max().item():g}; let the network end in a Softmax over channels, or use "
            "BinaryCrossEntropy for classes that can overlap"
        )


def _check_smoothing(share: float) -> float:
    """Return ``share``, the part of a target that is replaced by equal probabilities.

    Raises:
        ArgumentError: it is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise ArgumentError(
            f"label_smoothing has to be from 0 to below 1, not {share}: with 1, no target says anything"
        )
    return share
