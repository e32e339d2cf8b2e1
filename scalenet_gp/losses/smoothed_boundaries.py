"""Targets that are soft along their boundaries, for any loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from scalenet_gp.errors import ArgumentError
from scalenet_gp.losses.masked_loss import FinalActivation, call_loss, ratio

__all__ = ["SmoothedBoundaries"]


@final
class SmoothedBoundaries(nn.Module):
    """A loss of targets whose labels are smoothed along boundaries, where annotators disagree.

    Every target is averaged over the annotated voxels around it, weighted by a normal distribution (Islam and Glocker
    2021, arXiv 2104.05788, who smooth over 3³ voxels): far from a boundary it stays 0 or 1, and at one it says how near
    the other side is. Classes that exclude one another, annotated in the same voxels, still sum to one.

    Args:
        loss: the loss; called with (prediction, target, mask, class_weights).
        sigma: standard deviation of the distribution, in the unit of ``voxel_size``; it ends at three of them.
        voxel_size: along (Z, Y, X) or (Y, X).

    Raises:
        ArgumentError: ``sigma`` is not positive, or ``voxel_size`` is not two or three positive numbers; when called:
            the target has another number of axes; also as the loss says.

    Example:
        >>> from scalenet_gp.losses import BinaryCrossEntropy
        >>> loss = SmoothedBoundaries(BinaryCrossEntropy(), 8, (8, 8))
        >>> edge = torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]])
        >>> loss.smoothed(edge.double(), torch.ones_like(edge)).round(decimals=2).tolist()
        [[[[0.08, 0.32, 0.68, 0.92]]]]
    """

    takes_logits: ClassVar[bool] = True

    def __init__(self, loss: nn.Module, sigma: float, voxel_size: Sequence[float]) -> None:
        super().__init__()
        self.loss = loss
        self.sigma = float(sigma)
        self.voxel_size = tuple(map(float, voxel_size))
        if not 0 < self.sigma < math.inf:
            raise ArgumentError(f"sigma has to be positive, not {sigma}")
        if len(self.voxel_size) not in (2, 3) or not all(0 < size < math.inf for size in self.voxel_size):
            raise ArgumentError(f"voxel_size has to be two or three positive numbers, not {self.voxel_size}")

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        mask: Tensor,
        class_weights: Tensor | None = None,
        activation: FinalActivation | None = None,
    ) -> Tensor:
        """Return the loss, a scalar. Arguments and errors are those of :meth:`.MaskedLoss.forward`."""
        if target.shape == mask.shape and target.ndim in (4, 5):  # otherwise the loss refuses them
            target = self.smoothed(target.to(torch.promote_types(prediction.dtype, torch.float32)), mask)
        given = () if class_weights is None else (class_weights,)
        return call_loss(self.loss, prediction, target, mask, *given, activation=activation)

    def smoothed(self, target: Tensor, mask: Tensor) -> Tensor:
        """Return the smoothed target, (B, C, Z, Y, X); 0 where the mask is.

        Raises:
            ArgumentError: the target has another number of axes than ``voxel_size``.
        """
        if target.ndim - 2 != len(self.voxel_size):
            raise ArgumentError(
                f"voxel_size={self.voxel_size} has {len(self.voxel_size)} axes, a target of shape "
                f"{tuple(target.shape)} has {target.ndim - 2}"
            )
        annotated = (mask > 0).to(target.device)
        with torch.autocast(target.device.type, enabled=False):
            total = self._blurred(target.masked_fill(~annotated, 0))
            return ratio(total, self._blurred(annotated.to(target))).masked_fill(~annotated, 0)

    def _blurred(self, values: Tensor) -> Tensor:
        """Return the sum over the voxels around each, weighted by the distribution, along one axis after another."""
        dims = len(self.voxel_size)
        convolve = functional.conv3d if dims == 3 else functional.conv2d
        blurred = values.flatten(0, 1).unsqueeze(1)
        for axis, size in enumerate(self.voxel_size):
            radius = min(math.ceil(3 * self.sigma / size), values.shape[2 + axis] - 1)
            offsets = torch.arange(-radius, radius + 1, device=values.device, dtype=values.dtype) * size
            weights = torch.exp(-((offsets / self.sigma) ** 2) / 2)
            along = [1] * dims
            along[axis] = len(weights)
            padding = [radius if other == axis else 0 for other in range(dims)]
            blurred = convolve(blurred, weights.view(1, 1, *along), padding=padding)
        return blurred.view_as(values)

    def extra_repr(self) -> str:
        """Return the arguments but the loss."""
        return f"sigma={self.sigma!r}, voxel_size={self.voxel_size!r}"
