"""Convolution of a tensor that is joined from others, and partly upsampled, without making it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from scalenet_gp.tensors import Repeated, channels_last, cropped

__all__ = ["convolve_joined", "joined", "takes_parts"]


def takes_parts(layer: nn.Module) -> bool:
    """Whether :func:`convolve_joined` knows the layer: a plain valid convolution of two or three axes.

    One with hooks is none: they may change its weights before it is called, as spectral normalisation does.
    """
    return (
        isinstance(layer, nn.Conv2d | nn.Conv3d)
        and type(layer) in (nn.Conv2d, nn.Conv3d)  # none that computes it in a way of its own
        and layer.padding == "valid"
        and layer.groups == 1
        and {*layer.stride, *layer.dilation} == {1}
        and not (layer._forward_pre_hooks or layer._forward_hooks or layer._backward_hooks or layer._backward_pre_hooks)
    )


def joined(parts: Sequence[Tensor | Repeated]) -> Tensor:
    """All parts, upsampled and cropped, joined by their channels."""
    return _joined([_made(part) if isinstance(part, Repeated) else part for part in parts])


def convolve_joined(layer: nn.Conv2d | nn.Conv3d, parts: Sequence[Tensor | Repeated]) -> Tensor:
    """What ``layer`` makes of all parts joined by their channels, (B, C, Z, Y, X) each when upsampled and cropped.

    A convolution is linear: each part meets its own channels of the kernel, and the results are added up. Where a
    kernel lies on repeated voxels, the weights that fall onto one of them are added before: of a part that is repeated
    twice along every axis, a 3³ kernel takes 8 products for a voxel instead of 27.

    Args:
        layer: a convolution of which :func:`takes_parts` holds.
        parts: what is joined, in that order.
    """
    made = _convolved(layer, parts)
    total = next(made)
    for other in made:
        total += other
    return total


def _convolved(layer: nn.Conv2d | nn.Conv3d, parts: Sequence[Tensor | Repeated]) -> Iterator[Tensor]:
    """What adds up to the output: first of all plain parts, then of each repeated one.

    The first has the bias, and is a tensor of its own and no view, as what follows may write to it.
    """
    channels = [(part.tensor if isinstance(part, Repeated) else part).shape[1] for part in parts]
    kernels = layer.weight.split(channels, dim=1)
    plain = [(part, kernel) for part, kernel in zip(parts, kernels, strict=True) if isinstance(part, Tensor)]
    if plain:
        tensors, weights = zip(*plain, strict=True)
        yield _convolve(_joined(tensors), _joined(weights), layer.bias)
    first = not plain
    for part, kernel in zip(parts, kernels, strict=True):
        if isinstance(part, Repeated):
            made = _convolve_repeated(part, kernel, layer.bias if first else None)
            yield channels_last(made) if first else made
            first = False


def _made(part: Repeated) -> Tensor:
    fine = part.tensor
    for axis, factor in enumerate(part.factor, start=2):
        fine = fine.repeat_interleave(factor, dim=axis)
    return cropped(channels_last(fine), part.crop)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(tuple(tensors), dim=1) if len(tensors) > 1 else tensors[0]


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    convolution = nn.functional.conv2d if x.dim() == 4 else nn.functional.conv3d
    return convolution(x, kernel, bias)


def _convolve_repeated(part: Repeated, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """The valid convolution of a repeated part, computed at its coarse voxels and interleaved."""
    factor, dims, reach = part.factor, len(part.factor), kernel.shape[2:]
    size = [past - first - k + 1 for (first, past), k in zip(part.crop, reach, strict=True)]
    blocks = [-(-(first + n) // f) for (first, _), n, f in zip(part.crop, size, factor, strict=True)]
    phases = _phases(kernel, factor)
    # a phase whose kernel reaches one coarse voxel less than those of others has zeros there; so may the tensor
    lacking = [n + k - 1 - s for n, k, s in zip(blocks, phases.shape[-dims:], part.tensor.shape[2:], strict=True)]
    x = part.tensor
    if any(lacking):
        x = nn.functional.pad(x, [voxels for n in reversed(lacking) for voxels in (0, n)])
    made = _convolve(x, phases.flatten(0, dims), None if bias is None else bias.repeat(math.prod(factor)))
    # (B, phases · C, Z, Y, X) to (B, C, Z · phases, Y · phases, X · phases)
    apart = made.movedim(1, -1).unflatten(-1, (*factor, kernel.shape[0]))
    order = [axis + 1 + moved for axis in range(dims) for moved in (0, dims)]
    shape = [n * f for n, f in zip(blocks, factor, strict=True)]
    fine = apart.permute(0, *order, 2 * dims + 1).reshape(x.shape[0], *shape, kernel.shape[0]).movedim(-1, 1)
    return cropped(fine, tuple((first, first + n) for (first, _), n in zip(part.crop, size, strict=True)))


def _phases(kernel: Tensor, factor: Sequence[int]) -> Tensor:
    """The kernel (O, C, Z, Y, X) on coarse voxels, for each place of a fine voxel in its coarse one.

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
