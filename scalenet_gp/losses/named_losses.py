"""Losses that have names, and weights in a sum."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError

__all__ = ["NamedLosses"]


class NamedLosses(nn.Module):
    """Abstract: what adds up losses that have names, each multiplied by its weight.

    The weights are not normalised: twice the weights are twice the loss. They are no part of the state, and may be
    changed from step to step.

    Attributes:
        losses: in the order of ``weights``.
        weights: of every loss by its name.

    Raises:
        ValueError: there is no loss, losses and weights have other names, or a weight is negative or not finite.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if not losses:
            raise ArgumentError("there has to be at least one loss")
        if losses.keys() != weights.keys():
            raise ArgumentError(f"there are losses for {', '.join(losses)}, but weights for {', '.join(weights)}")
        for name, weight in weights.items():
            if not 0 <= weight < inf:
                raise ArgumentError(f"the weight of {name!r} has to be from 0 up, not {weight}")
        self.weights = dict(weights)
        self.losses = nn.ModuleList(losses[name] for name in weights)

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of these losses by name, a scalar.

        Raises:
            KeyError: one of them is not known.
            ValueError: there are none.
        """
        if not parts:
            raise ArgumentError(f"there is no loss to add up; there could be {', '.join(self.weights)}")
        first, *others = (self.weights[name] * loss for name, loss in parts.items())
        return sum(others, start=first)

    def extra_repr(self) -> str:
        """The weights."""
        return f"weights={self.weights}"
