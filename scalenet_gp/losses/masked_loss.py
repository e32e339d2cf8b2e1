"""What the losses of masked predictions share: what counts, what is refused, and how means are taken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from inspect import signature
from typing import ClassVar

import torch
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError

__all__ = ["Annotated", "MaskedLoss", "ratio"]


@dataclass(frozen=True, slots=True, eq=False)
class Annotated:
    """What a loss is computed from, checked, on the prediction's device.

    Attributes:
        prediction: (B, C, Z, Y, X), float32 or float64; 0 where it is not annotated.
        target: of the same shape and type; 0 where it is not annotated.
        mask: of the same shape, boolean: what is annotated.
        class_weights: (C,), of the same type, or None.
    """

    prediction: Tensor
    target: Tensor
    mask: Tensor
    class_weights: Tensor | None

    @property
    def axes(self) -> tuple[int, ...]:
        """All axes but that of the channels."""
        return (0, *range(2, self.prediction.ndim))

    def mean(self, values: Tensor) -> Tensor:
        """The mean of what the annotated voxels have, each with the weight of its class.

        Args:
            values: (B, C, Z, Y, X), 0 where it is not annotated.
        """
        if self.class_weights is None:
            return ratio(values.sum(), self.mask.sum())
        return self._weighted_mean(values.sum(self.axes), self.mask.sum(self.axes))

    def mean_of_classes(self, values: Tensor) -> Tensor:
        """The mean of what the classes have of which anything is annotated, each with its weight.

        Args:
            values: (C,), 0 where nothing of the class is annotated.
        """
        return self._weighted_mean(values, self.mask.sum(self.axes) > 0)

    def _weighted_mean(self, sums: Tensor, counts: Tensor) -> Tensor:
        if self.class_weights is None:
            return ratio(sums.sum(), counts.sum())
        return ratio((self.class_weights * sums).sum(), (self.class_weights * counts).sum())


class MaskedLoss(nn.Module, ABC):
    """Abstract: a loss of what is annotated. A kind of loss computes it from what is left then (:meth:`compute`).

    It is computed in float32, also under autocast, and in float64 where the prediction is that. Weighted means divide
    by the weights of what counts: equal weights change nothing, and neither does multiplying all of them.

    A kind of loss keeps its arguments as attributes of the same names; the representation shows them.
    """

    probabilities: ClassVar[bool] = True
    """Whether prediction and target lie in [0, 1]. Otherwise they may be any finite number."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """The loss, a scalar.

        Args:
            prediction: (B, C, Z, Y, X) or (B, C, Y, X).
            target: of the same shape and any type.
            mask: of the same shape and any type: above 0 where the class of that channel is annotated.
            class_weights: (C,), from 0 up and not all 0: how much each class counts in means. All the same by default.

        Raises:
            ValueError: the three are not of one shape, something annotated is out of range, or the weights are not as
                described.
        """
        with torch.autocast(prediction.device.type, enabled=False):
            return self.compute(self._annotated(prediction, target, mask, class_weights))

    @abstractmethod
    def compute(self, known: Annotated) -> Tensor:
        """The loss, a scalar, of what is annotated.

        Raises:
            ValueError: this loss does not take it.
        """

    def extra_repr(self) -> str:
        """The arguments."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in signature(type(self)).parameters)

    def _annotated(self, prediction: Tensor, target: Tensor, mask: Tensor, class_weights: Tensor | None) -> Annotated:
        if not prediction.shape == target.shape == mask.shape or prediction.ndim not in (4, 5):
            shapes = ", ".join(str(tuple(t.shape)) for t in (prediction, target, mask))
            raise ArgumentError(
                f"prediction, target and mask have to have one shape (B, C, Z, Y, X) or (B, C, Y, X), not {shapes}"
            )
        prediction = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        annotated = (mask > 0).to(prediction.device)
        # not by multiplying with the mask: NaN times zero is NaN
        prediction = prediction.masked_fill(~annotated, 0)
        target = target.to(prediction).masked_fill(~annotated, 0)
        self._check_range("prediction", prediction)
        self._check_range("target", target)
        if class_weights is not None:
            class_weights = _checked_weights(class_weights, prediction.shape[1]).to(prediction)
        return Annotated(prediction, target, annotated, class_weights)

    def _check_range(self, what: str, values: Tensor) -> None:
        right = (values >= 0) & (values <= 1) if self.probabilities else values.isfinite()
        if not right.all():
            raise ArgumentError(
                f"the annotated part of the {what} has to "
                + ("lie in [0, 1]" if self.probabilities else "be finite")
                + f", it has values from {values.min().item():g} to {values.max().item():g}"
                + ("; a network that ends in a Sigmoid predicts probabilities" if self.probabilities else "")
            )


def _checked_weights(weights: Tensor, classes: int) -> Tensor:
    if weights.shape != (classes,):
        raise ArgumentError(
            f"class_weights has to have one weight for each of the {classes} channels, shape ({classes},), not "
            f"{tuple(weights.shape)}"
        )
    if not (weights.isfinite() & (weights >= 0)).all() or not weights.any():
        raise ArgumentError(f"class_weights have to be finite, from 0 up and not all 0, not {weights.tolist()}")
    return weights


def ratio(total: Tensor, count: Tensor) -> Tensor:
    """``total / count``; where nothing counts, ``total``, which is 0 and keeps its gradient, which is 0 too."""
    return total / torch.where(count > 0, count, 1)
