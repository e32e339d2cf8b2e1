"""Weighted mean and variance of tensors in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from scalenet_gp.errors import ArgumentError

__all__ = ["RunningMoments"]


class RunningMoments:
    """The weighted mean and variance of tensors that are added one after the other (West 1979, CACM 22:532).

    Args:
        first: the first tensor. It is never changed; as long as it is the only one it is the mean.
        with_variance: True to keep a variance.

    Attributes:
        mean: the weighted mean; float32, or float64 if the first tensor is, from the second tensor on.
    """

    def __init__(self, first: Tensor, *, with_variance: bool) -> None:
        self.mean = first
        self._variance: Tensor | None = None
        self._owned = False
        self._with_variance = with_variance

    @property
    def variance(self) -> Tensor:
        """The weighted squared deviations from the mean, over the sum of the weights.

        Raises:
            ArgumentError: it was not kept, or there is only one tensor.
        """
        if self._variance is None:
            raise ArgumentError("a variance needs two tensors or more, and with_variance from the first")
        return self._variance

    def add(self, tensor: Tensor, share: Tensor) -> None:
        """Add a tensor.

        Args:
            tensor: a tensor of the shape of the first.
            share: its weight over the sum of all weights so far, its own included: one number, or one per channel.
        """
        if not self._owned:
            self.mean = self.mean.to(torch.promote_types(self.mean.dtype, torch.float32), copy=True)
            self._owned = True
            if self._with_variance:
                self._variance = torch.zeros_like(self.mean)
        tensor = tensor.to(self.mean.dtype)
        share = share.to(self.mean).reshape(-1, *(1,) * (tensor.dim() - 2))
        if self._variance is not None:
            # of all so far: (1 - share) times that before, and share (1 - share) times the squared deviation from
            # the mean before; as it stands no two large numbers are subtracted
            deviation = tensor - self.mean
            self._variance.add_(deviation.square_().mul_(share)).mul_(1 - share)
        self.mean.lerp_(tensor, share)
