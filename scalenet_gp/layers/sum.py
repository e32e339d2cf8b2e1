"""Join tensors by adding them up."""

from __future__ import annotations

from torch import Tensor

from scalenet_gp.layers.joining import Join

__all__ = ["Sum"]


class Sum(Join):
    """The first tensor plus all others; arguments and errors: see :class:`~scalenet_gp.layers.joining.Join`.

    (B, C₁, Z, Y, X), (B, C₂, Z, Y, X) and so on to (B, C₁, Z, Y, X).
    """

    def forward(self, *tensors: Tensor) -> Tensor:
        total, *others = tensors
        for other in self._projected(others):
            total = total + other
        return total
