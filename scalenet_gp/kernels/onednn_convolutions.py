"""Convolutions on the processor, arranged as oneDNN, torch's library for them, is fastest."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from scalenet_gp.kernels.private_torch import convolve_onednn, has_onednn, is_fake
from scalenet_gp.kernels.tensors import channels_last

__all__ = ["OneDnnConvolutions", "is_handed_over"]

_LANES = {"AVX2": 8}
"""Numbers of 32 bits in a vector register, by torch's name for a processor; only processors that were measured."""

_AXES = {torch.conv2d: 2, torch.conv3d: 3}


class OneDnnConvolutions(TorchFunctionMode):
    """Makes torch convolve faster on processors with AVX2, within this context and without gradients.

    All valid convolutions in float32 go to oneDNN. torch would compute small ones itself, in 3D by a rule that leaves
    the last axis out: 12 channels of 10 × 138² voxels took it four times as long.

    Convolutions with few output channels are computed for two voxels at a time. oneDNN takes the output channels of a
    voxel for the lanes of the vector registers, 8 of them, and is at its best with multiples of 24. The 12 channels of
    a fine resolution level make it half as fast. So the kernel is set down twice, one voxel apart along the last axis,
    for two neighboring voxels of the output at once, which have 24 channels together, and moves on by two: 12 channels
    took 0.67 to 0.91 of the time. The lanes in use decide if it pays. The zeros that fill the two kernels up add
    nothing to the sums, which are the same to the bit; only infinities and NaN spread one voxel farther along the last
    axis. The output needs an even number of voxels along that axis, and the input channels last.

    All other convolutions, and all convolutions of a torch that hides its call of oneDNN, are left as they are.

    Example:
        >>> import torch
        >>> convolution = torch.nn.Conv3d(4, 12, 3)
        >>> with torch.inference_mode(), OneDnnConvolutions():
        ...     made = convolution(torch.zeros(1, 4, 8, 8, 8))
        >>> made.shape
        torch.Size([1, 12, 6, 6, 6])
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _AXES:
            try:
                given = _SIGNATURE.bind(_AXES[func], *args, **kwargs).arguments
            except TypeError:  # torch says what is wrong, or knows another name
                return func(*args, **kwargs)
            if (made := _convolved(**given)) is not None:
                return made
        return func(*args, **kwargs)


def is_handed_over(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: str | int | Sequence[int], axes: int
) -> bool:
    """Return True if :class:`OneDnnConvolutions` gives a convolution of these tensors over so many axes to oneDNN."""
    if torch.backends.cpu.get_cpu_capability() not in _LANES or torch.is_grad_enabled():
        return False
    if not has_onednn():
        return False
    tensors = [x, weight] if bias is None else [x, weight, bias]
    kinds = {(tensor.device.type, tensor.dtype, tensor.layout) for tensor in tensors}
    if kinds != {("cpu", torch.float32, torch.strided)} or torch.is_autocast_enabled("cpu"):
        return False
    if not x.dim() == weight.dim() == axes + 2 or (bias is not None and bias.shape != weight.shape[:1]):
        return False
    return x.numel() > 0 and (padding == "valid" or _all(padding, 0))


def _convolved(
    axes: int,
    input: Tensor,  # noqa: A002 - as torch calls it
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return the convolution over so many axes; ``None`` if it is left to torch, which raises if it is wrong."""
    if any(len(_per_axis(option, axes)) != axes for option in (stride, dilation)):
        return None
    # oneDNN has nothing for fake tensors
    if is_fake(input) or not is_handed_over(input, weight, bias, padding, axes):
        return None
    plain = _all(stride, 1) and _all(dilation, 1) and groups == 1

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int]) -> Tensor:
        bias = None if bias is None else bias.contiguous()  # oneDNN takes it for that
        return convolve_onednn(x, weight, bias, stride, _per_axis(dilation, axes), groups)

    if plain and _are_paired(input, weight):
        return _paired(convolve, input, weight, bias)
    return convolve(input, weight, bias, _per_axis(stride, axes))


_SIGNATURE = inspect.signature(_convolved)


def _are_paired(x: Tensor, weight: Tensor) -> bool:
    length, channels = weight.shape[-1], weight.shape[0]
    if length == 1 or (x.shape[-1] - length + 1) % 2:
        return False
    if x.shape[1] != weight.shape[1] or any(n < k for n, k in zip(x.shape[2:], weight.shape[2:], strict=True)):
        return False  # torch says so
    if 1 not in (x.stride(1), weight.stride(1)):  # channels last
        return False
    lanes = _LANES[torch.backends.cpu.get_cpu_capability()]
    alone, together = (math.ceil(n * channels / lanes) for n in (1, 2))
    return together * (length + 1) <= 2 * alone * length


def _paired(convolve: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    both = channels_last(torch.cat([functional.pad(weight, (0, 1)), functional.pad(weight, (1, 0))]))
    twice = None if bias is None else bias.repeat(2)
    made = convolve(channels_last(x), both, twice, (1,) * (x.dim() - 3) + (2,))
    # the channels of two neighbors lie side by side in memory: it is a view
    return made.movedim(1, -1).unflatten(-1, (2, weight.shape[0])).flatten(-3, -2).movedim(-1, 1)


def _all(option: int | Sequence[int] | str, number: int) -> bool:
    return not isinstance(option, str) and set(_per_axis(option, 1)) == {number}


def _per_axis(option: int | Sequence[int], axes: int) -> Sequence[int]:
    numbers = [operator.index(number) for number in (option if isinstance(option, Sequence) else [option])]
    return numbers * axes if len(numbers) == 1 else numbers
