"""The base of losses of masked predictions: checks of the tensors, and means over annotated voxels."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scalenet_gp.errors import ArgumentError

__all__ = ["Annotated", "FinalActivation", "MaskedLoss", "apply_activation", "call_loss", "ratio"]

FinalActivation = Literal["Sigmoid", "Softmax"]
"""The activation that makes probabilities of logits: for classes that can overlap, or that exclude one another."""


@dataclass(frozen=True, slots=True, eq=False)
class Annotated:
    """Checked tensors that a loss is computed from, on the prediction's device.

    A subclass of :class:`MaskedLoss` gets it, see the example there.

    Attributes:
        prediction: (B, C, Z, Y, X), float32 or float64; 0 where it is not annotated.
        target: of the same shape and type; 0 where it is not annotated.
        mask: of the same shape, boolean: True where it is annotated.
        class_weights: (C,), of the same type, or None.
        weights: the weight of every voxel, of the same shape and type; 0 where it is not annotated. None if all that
            are annotated weigh the same.
        logits: (B, C, Z, Y, X), of the same type, that ``prediction`` was made of by ``activation``; finite where any
            channel is annotated, 0 elsewhere. None if only the prediction is known.
        activation: the activation between the two, or None.

    Example:
        >>> ones = torch.ones(1, 2, 4, 4)
        >>> Annotated(prediction=ones / 2, target=ones, mask=ones > 0, class_weights=None).mean(ones / 2).item()
        0.5
    """

    prediction: Tensor
    target: Tensor
    mask: Tensor
    class_weights: Tensor | None
    weights: Tensor | None = None
    logits: Tensor | None = None
    activation: FinalActivation | None = None

    @property
    def axes(self) -> tuple[int, ...]:
        """All axes but that of the channels."""
        return (0, *range(2, self.prediction.ndim))

    def log_present(self) -> Tensor:
        """Return the logarithm of the probability that a class is there, (B, C, Z, Y, X).

        It is exact if there are logits; of probabilities, it ends at the logarithm of the smallest number. It is
        arbitrary where nothing is annotated.
        """
        if self.logits is None:
            return self.prediction.clamp(min=torch.finfo(self.prediction.dtype).tiny).log()
        if self.activation == "Sigmoid":
            return functional.logsigmoid(self.logits)
        return self.logits.log_softmax(dim=1)

    def log_absent(self) -> Tensor:
        """Return the logarithm of the probability that a class is not there; else as :meth:`log_present`."""
        if self.logits is None:
            return (1 - self.prediction).clamp(min=torch.finfo(self.prediction.dtype).tiny).log()
        if self.activation == "Sigmoid":
            return functional.logsigmoid(-self.logits)
        present = self.logits.log_softmax(dim=1)
        if present.shape[1] == 1:
            # as of a probability of 1: a finite number, of which many can be added up
            return torch.full_like(present, math.log(torch.finfo(present.dtype).tiny))
        others = (torch.cat([present[:, :c], present[:, c + 1 :]], dim=1) for c in range(present.shape[1]))
        return torch.stack([other.logsumexp(dim=1) for other in others], dim=1)

    def weigh(self, values: Tensor) -> Tensor:
        """Return values, (B, C, Z, Y, X), each multiplied by the weight of its voxel."""
        return values if self.weights is None else values * self.weights

    def mean_weights(self) -> Tensor | float:
        """Return the mean weight of the annotated voxels of every class, (C,) or 1 for all."""
        if self.weights is None:
            return 1.0
        counts = self.mask.sum(self.axes)
        return ratio(self.weights.sum(self.axes), counts).where(counts > 0, 1)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the annotated voxels, each with its own weight and that of its class.

        Args:
            values: (B, C, Z, Y, X), 0 where it is not annotated.
        """
        values, counts = self.weigh(values), self.mask if self.weights is None else self.weights
        if self.class_weights is None:
            return ratio(values.sum(), counts.sum())
        return self._weighted_mean(values.sum(self.axes), counts.sum(self.axes))

    def mean_of_classes(self, values: Tensor) -> Tensor:
        """Return the mean over the classes that are annotated anywhere, each with its weight.

        Args:
            values: (C,), 0 where nothing of the class is annotated.
        """
        return self._weighted_mean(values, self.mask.sum(self.axes) > 0)

    def _weighted_mean(self, sums: Tensor, counts: Tensor) -> Tensor:
        if self.class_weights is None:
            return ratio(sums.sum(), counts.sum())
        return ratio((self.class_weights * sums).sum(), (self.class_weights * counts).sum())


class MaskedLoss(nn.Module, ABC):
    """Abstract: a loss over annotated voxels. A subclass computes it from checked tensors, see :meth:`compute`.

    It is computed in float32, also under autocast, and in float64 where the prediction is float64. Weighted means are
    divided by the weights of what counts: equal weights change nothing, and neither does multiplying all of them. That
    holds for the weights of voxels, which are the values of the mask, and for those of classes.

    A subclass keeps its arguments as attributes of the same names; the representation shows them.

    Example:
        >>> class Brier(MaskedLoss):
        ...     def compute(self, known):
        ...         return known.mean((known.prediction - known.target) ** 2)
        >>> half = torch.full((1, 1, 4, 4), 0.5)
        >>> Brier()(half, torch.ones_like(half), torch.ones_like(half)).item()
        0.25
    """

    takes_logits: ClassVar[bool] = True
    """Trainers give logits, with their activation, to a loss that has this attribute, and probabilities to others."""

    probabilities: ClassVar[bool] = True
    """True if prediction and target lie in [0, 1]. Otherwise they may be any finite number."""

    def __init__(self) -> None:
        super().__init__()

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        mask: Tensor,
        class_weights: Tensor | None = None,
        activation: FinalActivation | None = None,
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            prediction: (B, C, Z, Y, X) or (B, C, Y, X).
            target: of the same shape and any type.
            mask: of the same shape and any type: the weight of a voxel, above 0 where the class of that channel is
                annotated. A mask of 0 and 1 gives every annotated voxel the same weight.
            class_weights: (C,), from 0 up and not all 0: how much each class counts in means. All the same by default.
            activation: ``"Sigmoid"`` or ``"Softmax"`` (over the channels) if ``prediction`` holds logits, to which it
                is then applied in float32. The loss of a voxel that is confidently wrong, and its gradient, are right
                from logits alone.

        Raises:
            ArgumentError: the three are not of one shape, something annotated is out of range, weights are not finite
                or not as described, or there is no such activation.
        """
        with torch.autocast(prediction.device.type, enabled=False):
            return self.compute(self._annotated(prediction, target, mask, class_weights, activation))

    @abstractmethod
    def compute(self, known: Annotated) -> Tensor:
        """Return the loss of the annotated voxels, a scalar.

        Raises:
            ArgumentError: this loss does not take it.
        """

    def extra_repr(self) -> str:
        """Return the arguments."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in signature(type(self)).parameters)

    def _annotated(
        self,
        prediction: Tensor,
        target: Tensor,
        mask: Tensor,
        class_weights: Tensor | None,
        activation: FinalActivation | None,
    ) -> Annotated:
        if not prediction.shape == target.shape == mask.shape or prediction.ndim not in (4, 5):
            shapes = ", ".join(str(tuple(t.shape)) for t in (prediction, target, mask))
            raise ArgumentError(
                f"prediction, target and mask have to have one shape (B, C, Z, Y, X) or (B, C, Y, X), not {shapes}"
            )
        prediction = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        annotated = (mask > 0).to(prediction.device)
        logits = None
        if activation is not None:
            # a softmax of one channel depends on all of them
            needed = annotated.any(dim=1, keepdim=True) if activation == "Softmax" else annotated
            logits = prediction.masked_fill(~needed, 0)
            _check_range("logits", logits, False)
            prediction = apply_activation(logits, activation)
        # not by multiplying with the mask: NaN times zero is NaN
        prediction = prediction.masked_fill(~annotated, 0)
        target = target.to(prediction).masked_fill(~annotated, 0)
        _check_range("prediction", prediction, self.probabilities)
        _check_range("target", target, self.probabilities)
        if class_weights is not None:
            class_weights = _checked_weights(class_weights, prediction.shape[1]).to(prediction)
        weights = _voxel_weights(mask.to(prediction.device), annotated, prediction)
        return Annotated(prediction, target, annotated, class_weights, weights, logits, activation)


def apply_activation(logits: Tensor, activation: FinalActivation) -> Tensor:
    """Return the probabilities, (B, C, Z, Y, X), of logits.

    Raises:
        ArgumentError: there is no such activation.
    """
    if activation == "Sigmoid":
        return logits.sigmoid()
    if activation == "Softmax":
        return logits.softmax(dim=1)
    raise ArgumentError(f"activation is {activation!r}; logits become probabilities by 'Sigmoid' or 'Softmax'")


def call_loss(
    loss: Callable[..., Tensor],
    prediction: Tensor,
    target: Tensor,
    mask: Tensor,
    *class_weights: Tensor,
    activation: FinalActivation | None = None,
) -> Tensor:
    """Return a loss of a prediction, or of logits: these are turned into probabilities for a loss that takes no logits.

    Args:
        loss: called with the other arguments; with ``activation`` only if it has the attribute ``takes_logits``.
        prediction: (B, C, Z, Y, X): logits if there is an ``activation``.
        target: in the same shape.
        mask: in the same shape.
        class_weights: (C,), if there are any.
        activation: the activation of the logits.
    """
    if activation is None:
        return loss(prediction, target, mask, *class_weights)
    if getattr(loss, "takes_logits", False):
        return loss(prediction, target, mask, *class_weights, activation=activation)
    return loss(apply_activation(prediction, activation), target, mask, *class_weights)


def _check_range(name: str, values: Tensor, probabilities: bool) -> None:
    right = (values >= 0) & (values <= 1) if probabilities else values.isfinite()
    if not right.all():
        raise ArgumentError(
            f"the annotated part of the {name} has to "
            + ("lie in [0, 1]" if probabilities else "be finite")
            + f", it has values from {values.min().item():g} to {values.max().item():g}"
            + ("; a network that ends in a Sigmoid predicts probabilities" if probabilities else "")
        )


def _voxel_weights(mask: Tensor, annotated: Tensor, like: Tensor) -> Tensor | None:
    """Return the weights of voxels, of the type of ``like``, or None if all that are annotated weigh the same."""
    if not mask.numel() or (~annotated | (mask == mask.max())).all():
        return None
    weights = mask.to(like).masked_fill(~annotated, 0)
    _check_range("mask", weights, False)
    return weights


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
    """Return ``total / count``; where nothing counts, ``total``, which is 0 and keeps its gradient, which is 0 too."""
    return total / torch.where(count > 0, count, 1)
