"""Weights of classes, from how often they occur."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scalenet_gp.errors import ArgumentError

__all__ = ["balanced_class_weights"]


def balanced_class_weights(shares: Sequence[float], least: float = 0.01) -> Tensor:
    """Return weights with which rare and common classes count equally: 1 / (number of classes × share).

    They are those of King and Zeng 2001 (doi 10.1093/oxfordjournals.pan.a004868). If the shares sum to 1, because
    classes exclude one another, a voxel weighs 1 on average.

    Args:
        shares: the share of every class among the voxels where it is annotated, counted over a whole data set.
        least: the least share: rarer classes weigh as if they had it.

    Returns:
        (C,), float32.

    Raises:
        ArgumentError: there is no class, a share is not in [0, 1], or ``least`` not in (0, 1].
    """
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise ArgumentError(f"shares={tuple(shares)} have to be numbers between 0 and 1, one for each class")
    if not 0 < least <= 1:
        raise ArgumentError(f"least={least} has to lie above 0 and at most at 1")
    return torch.tensor([1 / (len(shares) * max(share, least)) for share in shares], dtype=torch.float32)
