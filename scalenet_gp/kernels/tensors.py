"""The memory format of tensors, and crops of them."""

from __future__ import annotations

from types import EllipsisType
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Crop", "UpsampledView", "channels_last", "crop_tensor"]


Crop = tuple[tuple[int, int], ...]
"""First voxel and the one past the last, per spatial axis."""


class UpsampledView(NamedTuple):
    """A tensor to be upsampled by repetition and cropped, without having done so.

    Attributes:
        tensor: (B, C, Z, Y, X), at the coarse voxel size.
        factor: repetitions of each of its voxels, per spatial axis.
        crop: the part that is read of the result, in fine voxels.

    Example:
        >>> import torch
        >>> UpsampledView(torch.zeros(1, 2, 4, 4, 4), (2, 2, 2), ((1, 7),) * 3).factor
        (2, 2, 2)
    """

    tensor: Tensor
    factor: tuple[int, ...]
    crop: Crop


def channels_last(tensor: Tensor) -> Tensor:
    """Return ``tensor`` (B, C, Z, Y, X) with the channels of a voxel side by side in memory, fast for convolutions.

    torch considers both layouts of a tensor with one channel the same, but its convolutions look at the strides.
    """
    if tensor.shape[1] == 1:
        return tensor[:, 0].contiguous().unsqueeze(-1).movedim(-1, 1)
    return tensor.contiguous(memory_format=torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d)


def crop_tensor(tensor: Tensor, crop: Crop) -> Tensor:
    """Return the part ``crop`` of a tensor (B, C, Z, Y, X), as a view of it.

    The gradient of slices makes one tensor per axis, in another memory format, which takes ten times as long as the one
    tensor of a strided view. Compilers optimize that themselves, and do not know the strides yet.
    """
    if all(first == 0 and past == size for (first, past), size in zip(crop, tensor.shape[2:], strict=True)):
        return tensor
    if tensor.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        strides = tensor.stride()
        first_voxel = sum(stride * first for stride, (first, _) in zip(strides[2:], crop, strict=True))
        shape = (*tensor.shape[:2], *(past - first for first, past in crop))
        return tensor.as_strided(shape, strides, tensor.storage_offset() + first_voxel)
    index: tuple[EllipsisType | slice, ...] = (..., *(slice(first, past) for first, past in crop))
    return tensor[index]
