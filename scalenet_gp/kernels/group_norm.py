"""Group normalization whose gradients torch can compute.

On a CPU, torch 2.13 ends the process when it computes the gradient of the weights of a group normalization but not of
its channels-last input: in the first layer of a network, and when :func:`torch.autograd.grad` is asked for parameters
alone. The layer cannot know that when it is called, so it always gets its voxels along one axis, which has no such
memory format.
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
    """Return the most groups, up to eight, that divide the channels and leave at least two in each; else one.

    Wu and He 2018 (arXiv 1803.08494) found 4 to 32 groups to work alike. One channel per group would be instance
    normalization, which is not defined for a single voxel.

    Example:
        >>> most_groups(12), most_groups(7)
        (6, 1)
    """
    return max(
        groups for groups in range(1, _MOST + 1) if groups == 1 or (channels % groups == 0 and channels // groups >= 2)
    )


class GroupNorm(nn.GroupNorm):
    """Group normalization, (B, C, Z, Y, X) to the same shape, that keeps the memory format channels last.

    Example:
        >>> import torch
        >>> GroupNorm(2, 4)(torch.zeros(1, 4, 2, 2, 2)).shape
        torch.Size([1, 4, 2, 2, 2])
    """

    def forward(self, x: Tensor) -> Tensor:
        return channels_last(_guarded(super().forward, x))


class GroupNormGuard(TorchFunctionMode):
    """A context in which every group normalization is safe, also in modules that know nothing of the fault.

    Example:
        >>> import torch
        >>> with GroupNormGuard():
        ...     made = torch.nn.GroupNorm(2, 4)(torch.zeros(1, 4, 2, 2, 2))
    """

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


def _guarded(normalize: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return ``normalize`` of ``x`` (B, C, Z, Y, X), on a CPU of (B, C, Z · Y · X).

    It is done with gradients and without, so that both give the same bits: torch sums in another order for each format.
    """
    if x.dim() < 4 or x.device.type != "cpu":
        return normalize(x)
    return normalize(x.flatten(2)).unflatten(2, x.shape[2:])
