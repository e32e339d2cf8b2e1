"""The thickness of slabs with which a block fits into memory, and the memory that they take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress

import torch
from funlib.geometry import Roi

from scalenet_gp.errors import ArgumentError
from scalenet_gp.graph import SpecializedNet
from scalenet_gp.inference.intensity_window import IntensityWindow
from scalenet_gp.inference.slabbed_inference import SlabbedInference
from scalenet_gp.inference.slabs import AXIS
from scalenet_gp.kernels import BeyondLimitError, MemoryTracker, fake_copy, fake_tensors
from scalenet_gp.leibnet import LeibNet

__all__ = ["choose_slab_thickness", "predict_slabbed_memory", "slabbed_memory"]

_PLANES, _VOXELS = 32, 2**23
"""Planes and voxels of the finest output in a slab that is thick enough.

On a processor, slabs of 64 planes of 512² voxels were no faster than those of 32, and slabs of 16 took 7 % longer.
"""


def choose_slab_thickness(
    net: LeibNet,
    outputs: Mapping[str, Roi],
    memory_limit: int,
    dtype: torch.dtype = torch.float32,
    intensities: Mapping[str, IntensityWindow] | None = None,
) -> int:
    """Choose the thickness (world units) of slabs with which inference of ``outputs`` is fast and fits into memory.

    Thick slabs keep a device busy and compute less twice (the margins within nodes that convolve several times). From
    some thickness on nothing is gained, and memory is lost. So the thinnest slab that is thick enough is chosen, or, if
    that takes too much memory, the thickest that fits. Candidates are the whole box, whole steps of the network's
    lattices, and fractions of one.

    Args:
        net: the network.
        outputs: as for :meth:`.LeibNet.plan`.
        memory_limit: bytes for weights and everything that inference makes, as :func:`slabbed_memory` predicts it.
        dtype: the type to compute in.
        intensities: as for :meth:`.SlabbedInference.run`.

    Raises:
        GraphError: no plan can be made.
        ArgumentError: not even the thinnest slabs fit; the message says how much they need.
        UnknownNameError: the network has no such output.

    Example:
        >>> from funlib.geometry import Roi
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8, 8), base_nc=2, downsample_factors=[(2, 2, 2)])
        >>> choose_slab_thickness(net, {"output": Roi((0, 0, 0), (128, 64, 64))}, memory_limit=2**30)
        128
    """
    whole, *slabs = _thicknesses(net, outputs)
    enough = min((n for n in (whole, *slabs) if _is_enough(net, outputs, n)), default=whole)
    # the whole box keeps nothing for a next slab, so it may fit where slabs do not
    first = (whole, enough) if whole < 2 * enough else (enough, whole)
    thinner = [n for n in slabs if n < enough]
    for thickness in dict.fromkeys((*first, *thinner)):
        if _memory(net, outputs, thickness, dtype, intensities, memory_limit) <= memory_limit:
            return thickness
    needed = {n: slabbed_memory(net, outputs, n, dtype, intensities) for n in (whole, *thinner[-1:])}
    least = min(needed, key=needed.__getitem__)
    blocks = ", ".join(f"{tuple(roi.shape / net.voxel_size[key])} voxels of {key!r}" for key, roi in outputs.items())
    raise ArgumentError(
        f"a block of {blocks} takes {_size(needed[least])} of memory, in slabs of {least} world units, but there are "
        f"{_size(memory_limit)} for it; make blocks smaller, above all across the first axis, or allow for more memory"
    )


def slabbed_memory(
    net: LeibNet,
    outputs: Mapping[str, Roi],
    thickness: int,
    dtype: torch.dtype = torch.float32,
    intensities: Mapping[str, IntensityWindow] | None = None,
) -> int:
    """Predict the peak bytes of inference in slabs: weights, outputs, and the slab of the inputs that is in work.

    Args:
        net: the network.
        outputs: as for :meth:`.LeibNet.plan`.
        thickness: as for :meth:`.SlabbedInference.of`.
        dtype: the type to compute in.
        intensities: as for :meth:`.SlabbedInference.run`.

    Raises:
        LatticeError, GraphError, UnknownNameError: as :meth:`.SlabbedInference.of`.
    """
    return _memory(net, outputs, thickness, dtype, intensities, None)


def predict_slabbed_memory(
    net: LeibNet,
    slabbed: SlabbedInference,
    *,
    dtype: torch.dtype = torch.float32,
    intensities: Mapping[str, IntensityWindow] | None = None,
    limit: int | None = None,
) -> int:
    """Predict the peak bytes of slabbed inference, weights included, on the device of the weights.

    Nothing is allocated. Convolutions are assumed to run within :class:`.OneDnnConvolutions`. The inputs, which may lie
    on another device and are float32 where ``intensities`` has no window of them, are not counted. The slab in work is,
    if a window or ``dtype`` make a copy of it. Everything else is as for :func:`scalenet_gp.analysis.predict_cost`.

    Args:
        net: the network that ``slabbed`` is for.
        slabbed: a schedule of :meth:`.SlabbedInference.of`.
        dtype: a floating point type, of the weights and of everything that is computed.
        intensities: as for :meth:`.SlabbedInference.run`.
        limit: stop at the first sum beyond it, and return that.

    Raises:
        GraphError: the schedule is for another network.
        ArgumentError: ``dtype`` is not a floating point type.
    """
    if not dtype.is_floating_point:
        raise ArgumentError(f"a network computes in a floating point type, not in {dtype}")
    memory = MemoryTracker(limit, handing_over=True)
    with fake_tensors(), torch.no_grad(), suppress(BeyondLimitError):
        module, device = fake_copy(SpecializedNet(net.graph, slabbed.plan), dtype)
        module.eval()
        types = {name: window.dtype for name, window in (intensities or {}).items()}
        inputs = {
            name: torch.empty((1, tensor.channels, *tensor.shape), dtype=types.get(name, torch.float32), device=device)
            for name, tensor in slabbed.plan.input_tensors.items()
        }
        memory.leave_out(inputs.values())  # they are the caller's
        with memory.watch():
            memory.follow([*module.parameters(), *module.buffers()])
            slabbed.execute(module.nodes, inputs, intensities)  # type: ignore[arg-type]
    return memory.peak


def _memory(
    net: LeibNet,
    outputs: Mapping[str, Roi],
    thickness: int,
    dtype: torch.dtype,
    intensities: Mapping[str, IntensityWindow] | None,
    limit: int | None,
) -> int:
    """Return :func:`slabbed_memory`, or, if that is beyond the limit, some number beyond it."""
    # after some slabs memory is steady, so the rest of the box is left out, but for its outputs
    begin = min(roi.begin[AXIS] for roi in outputs.values())
    seen = {
        key: _until(roi, begin + _steady_slabs(net, outputs, thickness) * thickness) for key, roi in outputs.items()
    }
    seen = {key: roi for key, roi in seen.items() if not roi.empty}
    unseen = sum(
        _values(net, key, roi) - (_values(net, key, seen[key]) if key in seen else 0) for key, roi in outputs.items()
    )
    beside = unseen * dtype.itemsize
    within = None if limit is None else limit - beside
    slabbed = SlabbedInference.of(net, seen, thickness)
    return beside + predict_slabbed_memory(net, slabbed, dtype=dtype, intensities=intensities, limit=within)


def _steady_slabs(net: LeibNet, outputs: Mapping[str, Roi], thickness: int) -> int:
    """Return the number of slabs after which memory stays the same: planes of the slab ahead are not read any more.

    It is computed for the finest input; coarser ones hardly count.
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
    """Return the candidates, from thick to thin."""
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
