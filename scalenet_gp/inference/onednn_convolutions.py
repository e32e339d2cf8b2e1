"""Convolutions on the processor, in the way in which oneDNN, torch's library for them, is fastest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["OneDnnConvolutions"]

_LANES = {"AVX2": 8}
"""Numbers of 32 bits in a vector register, by the name that torch has for a processor; those where it was measured."""

_PARAMETERS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


class OneDnnConvolutions(TorchFunctionMode):
    """Has torch convolve faster on the processor, within this context and without gradients.

    Valid convolutions in float32 all go to oneDNN. torch would keep small ones to itself, by a rule that leaves the
    last axis out: 12 channels of 10 × 138² voxels took it four times as long. And as one library computes them all,
    what a voxel comes out as does not depend on the size of the tensor that it is in.

    Convolutions with few output channels are computed for two voxels at a time, with AVX2. oneDNN takes the output
    channels of a voxel for the lanes of the vector registers, 8 of them, and is at its best with multiples of 24; the
    12 channels of a fine resolution level make it half as fast. So the kernel is set down twice, one voxel apart along
    the last axis, for two neighbouring voxels of the output at once, which have 24 channels together, and moves on by
    two: 12 channels took 0.67 to 0.91 of the time. Where it pays is reckoned by the lanes in use. The zeros that fill
    the two kernels up add nothing to the sums, which come out the same to the bit; only infinities and what is no
    number spread one voxel farther along the last axis. It takes outputs of an even number of voxels along that axis.

    All other convolutions are left as they are.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in (torch.conv2d, torch.conv3d):
            return func(*args, **(kwargs or {}))
        given = dict(zip(_PARAMETERS, args, strict=False)) | (kwargs or {})
        return _convolved(**given) if _are_taken(**given) else func(**given)


def _are_taken(
    input: Tensor,  # noqa: A002 - as torch calls it
    weight: Tensor,
    padding: str | int | Sequence[int] = 0,
    **_: object,
) -> bool:
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    if input.device.type != "cpu" or input.dtype != torch.float32 or input.dim() != weight.dim():
        return False
    return padding == "valid" or _all(padding, 0)


def _convolved(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    axes, plain = input.dim() - 2, _all(stride, 1) and _all(dilation, 1) and groups == 1

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int]) -> Tensor:
        return torch.mkldnn_convolution(x, weight, bias, [0] * axes, stride, _per_axis(dilation, axes), groups)

    if plain and _are_paired(input, weight):
        return _paired(convolve, input, weight, bias)
    return convolve(input, weight, bias, _per_axis(stride, axes))


def _are_paired(x: Tensor, weight: Tensor) -> bool:
    lanes, length, channels = _LANES.get(torch.backends.cpu.get_cpu_capability()), weight.shape[-1], weight.shape[0]
    if lanes is None or length == 1 or (x.shape[-1] - length + 1) % 2:
        return False
    alone, together = (math.ceil(n * channels / lanes) for n in (1, 2))
    return together * (length + 1) <= 2 * alone * length


def _paired(convolve: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    both = torch.cat([functional.pad(weight, (0, 1)), functional.pad(weight, (1, 0))]).contiguous(memory_format=layout)
    twice = None if bias is None else bias.repeat(2)
    made = convolve(x.contiguous(memory_format=layout), both, twice, (1,) * (x.dim() - 3) + (2,))
    # the channels of two neighbours lie side by side in memory: it is a view
    return made.movedim(1, -1).unflatten(-1, (2, weight.shape[0])).flatten(-3, -2).movedim(-1, 1)


def _all(option: str | int | Sequence[int], number: int) -> bool:
    return option == number if isinstance(option, str | int) else set(option) == {number}


def _per_axis(option: int | Sequence[int], axes: int) -> Sequence[int]:
    numbers = (option,) if isinstance(option, int) else tuple(option)
    return numbers * axes if len(numbers) == 1 else numbers
