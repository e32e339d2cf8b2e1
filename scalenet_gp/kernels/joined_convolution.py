"""Convolution of a tensor that is joined from others, and partly upsampled, without making it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scalenet_gp.kernels.private_torch import has_hooks
from scalenet_gp.kernels.tensors import UpsampledView, channels_last, crop_tensor

__all__ = ["accepts_unfused_inputs", "convolve_joined", "join_parts"]


def accepts_unfused_inputs(layer: nn.Module) -> bool:
    """Return True if :func:`convolve_joined` can compute the layer: a plain valid convolution of two or three axes.

    A layer with hooks is refused: they may change its weights before it is called, as spectral normalization does.
    """
    return (
        isinstance(layer, nn.Conv2d | nn.Conv3d)
        and type(layer) in (nn.Conv2d, nn.Conv3d)  # derived classes may compute otherwise
        and layer.padding == "valid"
        and layer.groups == 1
        and {*layer.stride, *layer.dilation} == {1}
        and not has_hooks(layer)
    )


def join_parts(parts: Sequence[Tensor | UpsampledView]) -> Tensor:
    """Return all parts, upsampled and cropped, joined by their channels."""
    return _joined([_made(part) if isinstance(part, UpsampledView) else part for part in parts])


def convolve_joined(layer: nn.Conv2d | nn.Conv3d, parts: Sequence[Tensor | UpsampledView]) -> Tensor:
    """Return ``layer`` of all parts joined by their channels, (B, C, Z, Y, X) each when upsampled and cropped.

    A convolution is linear: each part meets its own channels of the kernel, and the results are added up. Where a
    kernel lies on repeated voxels, the weights that fall onto one of them are added first: on a part that is repeated
    twice along every axis, a 3³ kernel takes 8 products per voxel instead of 27.

    Args:
        layer: a convolution that :func:`accepts_unfused_inputs`.
        parts: the tensors to join, in that order.
    """
    channels = [(part.tensor if isinstance(part, UpsampledView) else part).shape[1] for part in parts]
    kernels = layer.weight.split(channels, dim=1)
    pairs = list(zip(parts, kernels, strict=True))
    plain = [(part, kernel) for part, kernel in pairs if isinstance(part, Tensor)]
    repeated = [(part, kernel) for part, kernel in pairs if isinstance(part, UpsampledView)]
    if plain:
        tensors, weights = zip(*plain, strict=True)
        total = _convolve(_joined(tensors), _joined(weights), layer.bias)
    else:
        (part, kernel), *repeated = repeated
        made = _convolve_repeated(part, kernel, layer.bias)
        total = channels_last(_interleaved(made, part, _size(part, kernel)))  # no view: more is added to it
    for part, kernel in repeated:
        made, size = _convolve_repeated(part, kernel, None), _size(part, kernel)
        if _in_place(part, size):
            _apart(total, part.factor).add_(made)
        else:
            total += _interleaved(made, part, size)
    return total


def _in_place(part: UpsampledView, size: Sequence[int]) -> bool:
    """Return True if the result for a repeated part can be added in place, without an interleaved copy.

    The crop has to consist of whole coarse voxels, from the first on. Gradients and compilers fare better with tensors
    of their own.
    """
    whole = all(first == n % f == 0 for (first, _), n, f in zip(part.crop, size, part.factor, strict=True))
    return whole and not (torch.is_grad_enabled() or torch.compiler.is_compiling())


def _made(part: UpsampledView) -> Tensor:
    fine = part.tensor
    for axis, factor in enumerate(part.factor, start=2):
        fine = fine.repeat_interleave(factor, dim=axis)
    return crop_tensor(channels_last(fine), part.crop)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(tuple(tensors), dim=1) if len(tensors) > 1 else tensors[0]


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    convolution = nn.functional.conv2d if x.dim() == 4 else nn.functional.conv3d
    return convolution(x, kernel, bias)


def _size(part: UpsampledView, kernel: Tensor) -> list[int]:
    """Return the voxels of the valid convolution, per axis."""
    return [past - first - k + 1 for (first, past), k in zip(part.crop, kernel.shape[2:], strict=True)]


def _convolve_repeated(part: UpsampledView, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Return the valid convolution of a repeated part, computed at its coarse voxels.

    Returns:
        (B, Z, Y, X, fz, fy, fx, C): the coarse voxels that the crop touches, and the fine ones of each.
    """
    factor, dims = part.factor, len(part.factor)
    size = _size(part, kernel)
    blocks = [-(-(first + n) // f) for (first, _), n, f in zip(part.crop, size, factor, strict=True)]
    phases = _phases(kernel, factor)
    # a phase whose kernel reaches one coarse voxel less than those of others has zeros there; so may the tensor
    lacking = [n + k - 1 - s for n, k, s in zip(blocks, phases.shape[-dims:], part.tensor.shape[2:], strict=True)]
    x = part.tensor
    if any(lacking):
        x = nn.functional.pad(x, [voxels for n in reversed(lacking) for voxels in (0, n)])
    made = _convolve(x, phases.flatten(0, dims), None if bias is None else bias.repeat(math.prod(factor)))
    return made.movedim(1, -1).unflatten(-1, (*factor, kernel.shape[0]))


def _interleaved(apart: Tensor, part: UpsampledView, size: Sequence[int]) -> Tensor:
    """Return the result of :func:`_convolve_repeated` as (B, C, Z, Y, X), cropped."""
    dims = len(part.factor)
    order = [axis + 1 + moved for axis in range(dims) for moved in (0, dims)]
    shape = [n * f for n, f in zip(apart.shape[1:], part.factor, strict=False)]
    fine = apart.permute(0, *order, 2 * dims + 1).reshape(apart.shape[0], *shape, apart.shape[-1]).movedim(-1, 1)
    return crop_tensor(fine, tuple((first, first + n) for (first, _), n in zip(part.crop, size, strict=True)))


def _apart(tensor: Tensor, factor: Sequence[int]) -> Tensor:
    """Return a view of (B, C, Z, Y, X), in whole coarse voxels, with the axes of :func:`_convolve_repeated`."""
    dims = len(factor)
    split = tensor.movedim(1, -1)
    for axis in reversed(range(dims)):
        split = split.unflatten(axis + 1, (-1, factor[axis]))
    return split.permute(0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1)


def _phases(kernel: Tensor, factor: Sequence[int]) -> Tensor:
    """Return the kernel (O, C, Z, Y, X) on coarse voxels, for each position of a fine voxel in its coarse one.

    Returns:
        (fz, fy, fx, O, C, tz, ty, tx): along each axis, the weights that fall onto one coarse voxel, added up.
    """
    for axis, f in enumerate(factor):
        size = kernel.shape[axis + 2]
        taps = -(-(f + size - 1) // f)
        along = kernel.movedim(axis + 2, -1)
        shifted = [nn.functional.pad(along, (phase, taps * f - size - phase)) for phase in range(f)]
        kernel = torch.stack([weights.unflatten(-1, (taps, f)).sum(-1) for weights in shifted], dim=axis)
    return kernel
