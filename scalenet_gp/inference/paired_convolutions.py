"""Convolutions with few output channels, computed for two neighbouring voxels at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["PairedConvolutions"]

_LANES = {"AVX2": 8}
"""Numbers of 32 bits in a vector register, by the name that torch has for a processor; those where it was measured."""

_PARAMETERS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


class PairedConvolutions(TorchFunctionMode):
    """Has torch convolve faster on the processor, within this context and without gradients.

    oneDNN, torch's library for that, takes the output channels of a voxel for the lanes of the vector registers. With
    AVX2 these are 8, and it is at its best with multiples of 24; the 12 channels of a fine resolution level make it
    half as fast. So the kernel is set down twice, one voxel apart along the last axis, for two neighbouring voxels of
    the output at once, which have 24 channels together, and moves on by two: 12 channels took 0.67 to 0.91 of the time.
    Where it pays is reckoned by the lanes in use. The zeros that fill the two kernels up add nothing to the sums, which
    come out the same to the bit; only infinities and what is no number spread one voxel farther along the last axis.

    It holds for float32, for outputs of an even number of voxels along the last axis, and for tensors so large that
    torch hands them to oneDNN; all other convolutions are left as they are.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in (torch.conv2d, torch.conv3d):
            return func(*args, **(kwargs or {}))
        given = dict(zip(_PARAMETERS, args, strict=False)) | (kwargs or {})
        if _are_paired(**given):
            return _paired(func, given["input"], given["weight"], given.get("bias"))
        return func(**given)


def _are_paired(
    input: Tensor,  # noqa: A002 - as torch calls it
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> bool:
    lanes, x = _LANES.get(torch.backends.cpu.get_cpu_capability()), input
    if lanes is None or x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_grad_enabled():
        return False
    plain = padding == "valid" or _all(padding, 0)
    if not plain or not _all(stride, 1) or not _all(dilation, 1) or groups != 1 or x.dim() != weight.dim():
        return False
    length, channels = weight.shape[-1], weight.shape[0]
    if length == 1 or (x.shape[-1] - length + 1) % 2:
        return False
    alone, together = (math.ceil(n * channels / lanes) for n in (1, 2))
    return together * (length + 1) <= 2 * alone * length and _by_onednn(x, weight, bias)


def _all(option: str | int | Sequence[int], number: int) -> bool:
    return option == number if isinstance(option, str | int) else set(option) == {number}


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether torch hands the convolution to oneDNN, as it does from some size on."""
    ones, zeros = [1] * (x.dim() - 2), [0] * (x.dim() - 2)
    backend = torch._C._select_conv_backend(x, weight, bias, ones, zeros, ones, False, zeros, 1, None)
    return str(backend.name).startswith("Mkldnn")


def _paired(convolve: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    both = torch.cat([functional.pad(weight, (0, 1)), functional.pad(weight, (1, 0))]).contiguous(memory_format=layout)
    twice = None if bias is None else bias.repeat(2)
    made = convolve(x.contiguous(memory_format=layout), both, twice, (1,) * (x.dim() - 3) + (2,))
    # the channels of two neighbours lie side by side in memory: it is a view
    return made.movedim(1, -1).unflatten(-1, (2, weight.shape[0])).flatten(-3, -2).movedim(-1, 1)
