"""Group normalisation whose gradients torch can compute.

On a CPU, torch 2.13 ends the process where it computes the gradient of the weights of a group normalisation but not
that of its input, if that is channels last: in the first layer of a network, and where :func:`torch.autograd.grad` is
asked for parameters alone. The layer cannot know when it is called, so it is given its voxels along one axis, of which
there is no such format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from scalenet_gp.kernels.tensors import channels_last

__all__ = ["GroupNorm", "GroupNormGuard", "most_groups"]

_MOST = 8


def most_groups(channels: int) -> int:
    """The most groups up to eight that divide the channels and leave at least two in each; one where there are none.

    Wu and He 2018 (arXiv 1803.08494) found 4 to 32 groups to serve alike. One channel per group would be instance
    normalisation, which makes nothing of a single voxel.
    """
    return max(
        groups for groups in range(1, _MOST + 1) if groups == 1 or (channels % groups == 0 and channels // groups >= 2)
    )


class GroupNorm(nn.GroupNorm):
    """Group normalisation, (B, C, Z, Y, X) to the same shape, that is channels last as what it reads."""

    def forward(self, x: Tensor) -> Tensor:
        return channels_last(_guarded(super().forward, x))


class GroupNormGuard(TorchFunctionMode):
    """While it is entered, every group normalisation is safe: that of a module which someone else wrote too."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func not in (torch.group_norm, nn.functional.group_norm):
            return func(*args, **options)
        x, *others = args if args else (options.pop("input"),)
        return _guarded(lambda tensor: func(tensor, *others, **options), x)


def _guarded(normalise: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``normalise`` of ``x`` (B, C, Z, Y, X), on a CPU of (B, C, Z · Y · X).

    With gradients or without, so that both give the same bits: torch sums in another order for each format.
    """
    if x.dim() < 4 or x.device.type != "cpu":
        return normalise(x)
    return normalise(x.flatten(2)).unflatten(2, x.shape[2:])
