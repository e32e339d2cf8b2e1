"""How thick the slabs of a sweep may be for a block to fit into memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from funlib.geometry import Roi

from scalenet_gp.analysis import predict_slabbed_memory
from scalenet_gp.errors import ArgumentError
from scalenet_gp.inference.intensity_window import IntensityWindow
from scalenet_gp.inference.slabbed_inference import SlabbedInference
from scalenet_gp.inference.slabs import AXIS

if TYPE_CHECKING:
    from scalenet_gp.leibnet import LeibNet

__all__ = ["choose_slab_thickness", "sweep_memory"]

_PLANES, _VOXELS = 32, 2**23
"""Of the finest output, in a slab that is thick enough.

On a processor, slabs of 64 planes of 512² voxels were no faster than those of 32, and slabs of 16 took 7 % longer.
"""


def choose_slab_thickness(
    net: LeibNet,
    outputs: Mapping[str, Roi],
    memory_limit: int,
    dtype: torch.dtype = torch.float32,
    intensities: IntensityWindow | None = None,
) -> int:
    """The thickness (world units) of the slabs with which a sweep over ``outputs`` is fast and fits into memory.

    Thick slabs make less again, the margins within nodes that convolve several times, and keep a device busy; from some
    thickness on, there is nothing to be gained, and only memory to be lost. So it is the thinnest that is thick enough,
    or, where that takes too much memory, the thickest that fits. The thickest of all is the whole box; then come whole
    steps of the network's lattices, and fractions of one.

    Args:
        net: the network.
        outputs: as for :meth:`.LeibNet.plan`.
        memory_limit: bytes for weights and everything that a sweep makes, as :func:`sweep_memory` predicts it.
        dtype: the type to compute in.
        intensities: as for :meth:`.SlabbedInference.run`.

    Raises:
        ValueError: no plan can be made, or not even the thinnest slabs fit; the message says what they need.
        KeyError: the network has no such output.
    """
    whole, *slabs = _thicknesses(net, outputs)
    enough = min((n for n in (whole, *slabs) if _is_enough(net, outputs, n)), default=whole)
    # the whole box keeps nothing for a next slab, so it may fit where slabs do not
    first = (whole, enough) if whole < 2 * enough else (enough, whole)
    thinner = [n for n in slabs if n < enough]
    for thickness in dict.fromkeys((*first, *thinner)):
        if _memory(net, outputs, thickness, dtype, intensities, memory_limit) <= memory_limit:
            return thickness
    needed = {n: sweep_memory(net, outputs, n, dtype, intensities) for n in (whole, *thinner[-1:])}
    least = min(needed, key=needed.__getitem__)
    blocks = ", ".join(f"{tuple(roi.shape / net.voxel_size[key])} voxels of {key!r}" for key, roi in outputs.items())
    raise ArgumentError(
        f"a block of {blocks} takes {_size(needed[least])} of memory, in slabs of {least} world units, but there are "
        f"{_size(memory_limit)} for it; make blocks smaller, above all across the first axis, or allow for more memory"
    )


def sweep_memory(
    net: LeibNet,
    outputs: Mapping[str, Roi],
    thickness: int,
    dtype: torch.dtype = torch.float32,
    intensities: IntensityWindow | None = None,
) -> int:
    """Bytes that a sweep takes at most, weights and outputs included, inputs but for the slab in work not.

    Args:
        net: the network.
        outputs: as for :meth:`.LeibNet.plan`.
        thickness: as for :meth:`.SlabbedInference.of`.
        dtype: the type to compute in.
        intensities: as for :meth:`.SlabbedInference.run`.

    Raises:
        ValueError, KeyError: as :meth:`.SlabbedInference.of`.
    """
    return _memory(net, outputs, thickness, dtype, intensities, None)


def _memory(
    net: LeibNet,
    outputs: Mapping[str, Roi],
    thickness: int,
    dtype: torch.dtype,
    intensities: IntensityWindow | None,
    limit: int | None,
) -> int:
    """:func:`sweep_memory`, or, if that is beyond the limit, something that is."""
    begin = min(roi.begin[AXIS] for roi in outputs.values())
    seen = {key: _until(roi, begin + _seen(net, outputs, thickness) * thickness) for key, roi in outputs.items()}
    seen = {key: roi for key, roi in seen.items() if not roi.empty}
    unseen = sum(
        _values(net, key, roi) - (_values(net, key, seen[key]) if key in seen else 0) for key, roi in outputs.items()
    )
    beside = unseen * dtype.itemsize
    within = None if limit is None else limit - beside
    sweep = SlabbedInference.of(net, seen, thickness)
    return beside + predict_slabbed_memory(net, sweep, dtype=dtype, intensities=intensities, limit=within)


def _seen(net: LeibNet, outputs: Mapping[str, Roi], thickness: int) -> int:
    """Slabs after which all is as it will be: what the one ahead of the outputs made is not read any more.

    That is reckoned for the finest input; what is coarser hardly counts.
    """
    plan = net.plan(outputs)
    finest = min(plan.inputs, key=lambda key: net.voxel_size[key])
    halo = plan.inputs[finest].shape[AXIS] - max(roi.shape[AXIS] for roi in outputs.values())
    return math.ceil((halo + plan.step[AXIS]) / thickness) + 2


def _is_enough(net: LeibNet, outputs: Mapping[str, Roi], thickness: int) -> bool:
    key = min(outputs, key=lambda key: net.voxel_size[key])
    _, *across = outputs[key].shape / net.voxel_size[key]
    planes = thickness // net.voxel_size[key][AXIS]
    return planes >= _PLANES and planes * math.prod(across) >= _VOXELS


def _values(net: LeibNet, key: str, roi: Roi) -> int:
    return net.specs[key].channels * math.prod(roi.shape / net.voxel_size[key])


def _thicknesses(net: LeibNet, outputs: Mapping[str, Roi]) -> list[int]:
    """From thick to thin."""
    length = max(roi.end[AXIS] for roi in outputs.values()) - min(roi.begin[AXIS] for roi in outputs.values())
    lattice = math.lcm(*(net.voxel_size[key][AXIS] for key in outputs))
    whole = math.ceil(length / lattice) * lattice
    if not net.tileable:
        return [whole]
    step = net.plan(outputs).step[AXIS]
    steps = [step * 2**n for n in range(whole.bit_length()) if step * 2**n < whole]
    fractions = [step // 2**n for n in range(1, step.bit_length()) if step % (lattice * 2**n) == 0]
    return [whole, *reversed(steps), *(fraction for fraction in fractions if fraction < whole)]


def _until(roi: Roi, end: int) -> Roi:
    past = min(roi.end[AXIS], end)
    return Roi(roi.begin, (max(0, past - roi.begin[AXIS]), *roi.shape[1:]))


def _size(numbytes: int) -> str:
    return f"{numbytes / 2**20:,.0f} MiB"
