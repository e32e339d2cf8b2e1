"""Losses of masked, multi-label predictions, and of a distribution that a network predicts.

The former are modules called with (prediction, target, mask), each (B, C, Z, Y, X): probabilities in [0, 1], targets
in [0, 1], and 1 where the class of that channel is annotated. What is not annotated counts neither above nor below the
fraction bar, whatever it holds; where nothing is, the loss is zero and so is its gradient. A ValueError says that the
three differ in shape, or that something annotated lies outside [0, 1].

The latter, :class:`KullbackLeibler`, is called with what :class:`scalenet_gp.kinds.VariationalBottleneck` makes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BinaryCrossEntropy", "CrossEntropyDice", "Dice", "KullbackLeibler"]


class BinaryCrossEntropy(nn.Module):
    """The mean binary cross-entropy of the annotated voxels, over all channels together."""

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        prediction, target, annotated = _annotated(prediction, target, mask)
        total = functional.binary_cross_entropy(prediction, target, reduction="sum")
        return total / annotated.sum().clamp(min=1)


class Dice(nn.Module):
    """One minus the soft Dice coefficient of the annotated voxels, averaged over the channels that have any.

    Milletari et al. 2016 (arXiv 1606.04797), with sums instead of squares in the denominator. A channel counts all
    samples of the batch together, so that a class that one sample lacks does not dominate.

    Args:
        smoothing: added to numerator and denominator, in voxels: a class that is absent and not predicted has no loss.
    """

    def __init__(self, smoothing: float = 1.0) -> None:
        super().__init__()
        if smoothing <= 0:
            raise ValueError(f"smoothing has to be positive, not {smoothing}: an absent class would divide by zero")
        self.smoothing = smoothing

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        prediction, target, annotated = _annotated(prediction, target, mask)
        axes = (0, *range(2, prediction.ndim))
        overlap = (prediction * target).sum(axes)
        volume = (prediction + target).sum(axes)
        dice = (2 * overlap + self.smoothing) / (volume + self.smoothing)
        return (1 - dice).sum() / annotated.sum(axes).count_nonzero().clamp(min=1)


class CrossEntropyDice(nn.Module):
    """Binary cross-entropy plus Dice loss: the one for each voxel, the other against the rarity of a class."""

    def __init__(self) -> None:
        super().__init__()
        self.cross_entropy = BinaryCrossEntropy()
        self.dice = Dice()

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return self.cross_entropy(prediction, target, mask) + self.dice(prediction, target, mask)


class KullbackLeibler(nn.Module):
    """How far predicted normal distributions lie from the standard one (Kingma and Welling 2014, arXiv 1312.6114).

    Called with the mean and the logarithm of the variance, each (B, C, Z, Y, X). The Kullback-Leibler divergence from
    N(0, 1), in nats, is summed over the channels of a voxel and averaged over all voxels of the batch.
    """

    def forward(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """The loss.

        Raises:
            ValueError: the two differ in shape.
        """
        if mean.shape != log_variance.shape:
            raise ValueError(
                "mean and logarithm of the variance have to have one shape (B, C, Z, Y, X), not "
                f"{tuple(mean.shape)} and {tuple(log_variance.shape)}"
            )
        return (mean**2 + log_variance.expm1() - log_variance).sum(dim=1).mean() / 2


def _annotated(prediction: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction and target, both zero where nothing is annotated, and whether something is.

    A zero that is predicted as zero adds nothing to any sum here. Multiplying by the mask would not do: NaN times zero
    is NaN.

    Raises:
        ValueError: the three are not of one shape, or an annotated value is outside [0, 1].
    """
    if not prediction.shape == target.shape == mask.shape:
        shapes = ", ".join(str(tuple(t.shape)) for t in (prediction, target, mask))
        raise ValueError(f"prediction, target and mask have to have one shape (B, C, Z, Y, X), not {shapes}")
    annotated = (mask > 0).to(prediction.device)
    prediction = prediction.masked_fill(~annotated, 0)
    target = target.to(prediction).masked_fill(~annotated, 0)
    for what, values in (("prediction", prediction), ("target", target)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"the annotated part of the {what} has to lie in [0, 1], it has values from {values.min().item():g} to "
                f"{values.max().item():g}; a network that ends in a Sigmoid predicts probabilities"
            )
    return prediction, target, annotated
