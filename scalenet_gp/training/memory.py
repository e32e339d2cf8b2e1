"""Memory of a process: how much it holds, how much is free, and errors that say which training step would fit."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import platform
import resource
import sys
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from funlib.geometry import Coordinate

from scalenet_gp.analysis import predict_cost
from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet

__all__ = [
    "check_data_memory",
    "check_step_memory",
    "explain_memory_errors",
    "explain_out_of_memory",
    "free_bytes",
    "peak_resident_bytes",
    "resident_bytes",
]

_logger = logging.getLogger(__name__)

_SHARE = 1 / 2
"""The share of the available memory that a proposed plan may take as predicted.

Loss and optimizer take more, and allocators leave gaps: those of the C library are up to half the size of the tensors.
See :func:`.predict_cost` and :func:`.keep_freed_memory`.
"""

_MOST_TIMES = 8
"""The most that a step was seen to take, in sizes of all its tensors: with gradients, workspace and copies."""

_COPIES = 4
"""Arrays of about the size of an input or output that preparing a sample takes at a time."""

_SIGNS = ("can't allocate memory", "not enough memory", "bad_alloc", "out of memory", "could not create a primitive")
"""Parts of a RuntimeError's message by torch's allocators, the C++ library, drivers and oneDNN if memory is short."""


def resident_bytes() -> int:
    """Return the physical memory that this process holds, bytes; the most it ever held if the system does not tell."""
    pages = _process_pages()
    return peak_resident_bytes() if pages is None else pages[1] * resource.getpagesize()


def peak_resident_bytes() -> int:
    """Return the most physical memory that this process ever held, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free for new tensors on ``device``, bytes.

    On the processor, three limits apply: the address space (``ulimit -v``), the control group (of a container or a
    Slurm job) and the system. It is the smallest remainder of these, plus the freed memory that the C library keeps. On
    a GPU, it is the driver's free memory plus the freed memory that torch keeps.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    left = (_left_of_address_space(), _left_in_control_group(), _available())
    return int(max(0, min(left))) + _kept_by_c_library()


def explain_out_of_memory(
    net: LeibNet,
    plan: Plan,
    batch: int,
    dtype: torch.dtype,
    device: torch.device,
    activation_checkpointing: Collection[str] = (),
) -> str:
    """Return a paragraph on why a training step does not fit into memory, and which step would.

    It names the memory that the step needs (see :func:`.predict_cost`), the memory that is available, the three largest
    tensors, and the largest plan of the same outputs that fits (see :meth:`.LeibNet.largest_plan`). Finding that plan
    takes seconds to tens of seconds.

    Args:
        net: the network. The memory of its weights and gradients counts as available for the step.
        plan: the plan of the step.
        batch: number of samples in the batch.
        dtype: the type that convolutions compute in.
        device: the device of the step.
        activation_checkpointing: identifiers of nodes whose insides are computed again in the backward pass.

    Raises:
        ScaleNetError: the plan is another network's, or ``batch`` is not positive.
    """
    need = predict_cost(
        net.graph, plan, batch=batch, training=True, dtype=dtype, activation_checkpointing=activation_checkpointing
    ).peak
    tensors = [t for p in net.parameters() for t in (p, p.grad) if t is not None and t.device.type == device.type]
    there = free_bytes(device) + sum(t.numel() * t.element_size() for t in tensors)
    largest = sorted(plan.tensors, key=lambda tensor: tensor.numbytes(), reverse=True)[:3]
    listed = ", ".join(
        f"{t.name!r} {' × '.join(map(str, (batch, t.channels, *t.shape)))} "
        f"({_mebibytes(batch * t.numbytes(dtype.itemsize))})"
        for t in largest
    )
    ways = ["a smaller batch"] if batch > 1 else []
    ways += ["precision='bfloat16'"] if dtype.itemsize > torch.bfloat16.itemsize else []
    ways += ["activation_checkpointing=('*',)"] if set(net.nodes) - set(activation_checkpointing) else []
    return (
        f"out of memory on {device}: a step of training on {_outputs(net, plan)}, in batches of {batch}, needs about "
        f"{_mebibytes(need)} and more for loss and optimizer; there are {_mebibytes(there)}. Its largest tensors: "
        f"{listed}. {_what_fits(net, plan, int(_SHARE * min(there, need)), batch, dtype, activation_checkpointing)}"
        + (f". Less is needed with {' or '.join(ways)}" if ways else "")
    )


def check_step_memory(
    net: LeibNet,
    plan: Plan,
    batch: int,
    dtype: torch.dtype,
    device: torch.device,
    activation_checkpointing: Collection[str] = (),
) -> None:
    """Check that a training step fits into the memory that is free now, before any of it is taken.

    Only a step that may be too large is predicted in full, which takes a second or more. Arguments are those of
    :func:`explain_out_of_memory`.

    Raises:
        MemoryError: more is needed than is free; the message has both numbers, and the largest step that would fit.
    """
    there = free_bytes(device)
    tensors = batch * sum(tensor.numbytes(dtype.itemsize) for tensor in plan.tensors)
    if _MOST_TIMES * tensors <= there:
        return
    need = predict_cost(
        net.graph, plan, batch=batch, training=True, dtype=dtype, activation_checkpointing=activation_checkpointing
    ).peak
    if need > there:
        _logger.warning("a step is too large for the memory; working out what would fit, which can take a minute")
        raise MemoryError(explain_out_of_memory(net, plan, batch, dtype, device, activation_checkpointing))


def check_data_memory(net: LeibNet, plan: Plan, samples: int) -> None:
    """Check that the data of samples fit into the memory of this machine that is free now.

    Args:
        net: the network.
        plan: the plan of a sample.
        samples: samples that are held at a time, in all processes.

    Raises:
        MemoryError: they do not; the message has both numbers.
    """
    channels = {name: net.specs[name].channels for name in (*plan.inputs, *plan.outputs)}
    boxes = {**plan.inputs, **plan.outputs}
    voxels = {name: math.prod(roi.shape / Coordinate(net.voxel_size[name])) for name, roi in boxes.items()}
    need = samples * _COPIES * sum(int(voxels[name]) * channels[name] * 4 for name in boxes)
    there = free_bytes(torch.device("cpu"))
    if need > there:
        parts = ", ".join(
            f"{name!r} {' × '.join(str(n) for n in roi.shape / Coordinate(net.voxel_size[name]))} voxels "
            f"({format_size(length * net.unit for length in roi.shape)} nm)"
            for name, roi in boxes.items()
        )
        raise MemoryError(
            f"{samples} samples of {parts} take about {_mebibytes(need)} of memory to prepare, and "
            f"{_mebibytes(there)} are free: take a smaller sample, batch or number of workers; sizes in a run file are "
            "nanometres, not voxels"
        )


@contextmanager
def explain_memory_errors(
    net: LeibNet,
    plan: Plan,
    batch: int,
    dtype: torch.dtype,
    device: torch.device,
    activation_checkpointing: Collection[str] = (),
) -> Iterator[None]:
    """Within this context, running out of memory raises an error that says which step would fit.

    The variables of functions called within are freed before memory is counted. So the code that takes memory has to be
    one call. Arguments are those of :func:`explain_out_of_memory`.

    Raises:
        MemoryError: torch, numpy or Python found no memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(s in str(error) for s in _SIGNS)):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        traceback.clear_frames(error.__traceback__)
        _logger.warning("out of memory on %s; working out what would fit, which can take a minute", device)
        try:
            message = explain_out_of_memory(net, plan, batch, dtype, device, activation_checkpointing)
        except (MemoryError, RuntimeError):  # too little memory for the search, too
            message = f"out of memory on {device}: {_outputs(net, plan)}, in batches of {batch}, are too much"
        raise MemoryError(f"{message} ({reason})") from error


def _what_fits(
    net: LeibNet, plan: Plan, limit: int, batch: int, dtype: torch.dtype, activation_checkpointing: Collection[str]
) -> str:
    try:
        fitting = net.largest_plan(
            limit,
            training=True,
            dtype=dtype,
            outputs=plan.outputs,
            batch=batch,
            activation_checkpointing=activation_checkpointing,
        )
    except ValueError as error:
        return f"No plan would fit: {error}"
    need = predict_cost(
        net.graph, fitting, batch=batch, training=True, dtype=dtype, activation_checkpointing=activation_checkpointing
    ).peak
    return f"What would fit: {_outputs(net, fitting)}, which needs about {_mebibytes(need)}"


def _outputs(net: LeibNet, plan: Plan) -> str:
    """Return the finest output of a plan in voxels and nanometers, in words."""
    name = min(plan.outputs, key=lambda name: math.prod(net.voxel_size[name]))
    shape = plan.outputs[name].shape
    voxels = " × ".join(map(str, shape / Coordinate(net.voxel_size[name])))
    return f"{name!r} of {voxels} voxels ({format_size(length * net.unit for length in shape)} nm)"


def _mebibytes(count: float) -> str:
    return f"{count / 2**20:,.0f} MiB"


def _process_pages() -> tuple[int, int] | None:
    """Return the pages of address space and of physical memory of this process (proc(5)); None without such a file."""
    try:
        size, resident, *_ = Path("/proc/self/statm").read_text().split()
    except OSError:
        return None
    return int(size), int(resident)


def _left_of_address_space() -> float:
    limit, pages = resource.getrlimit(resource.RLIMIT_AS)[0], _process_pages()
    return math.inf if limit == resource.RLIM_INFINITY or pages is None else limit - pages[0] * resource.getpagesize()


def _available() -> int:
    """Return the memory that the system can give without swapping, bytes."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _left_in_control_group(root: Path = Path("/")) -> float:
    """Return the memory that the tightest control group (cgroups(7), version 1 or 2) of this process leaves, bytes."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return math.inf
    left = math.inf
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        own = top / path.lstrip("/")
        # in a container the path may be the host's, and the top is the group itself
        for folder in (group for group in (own, *own.parents) if group.is_relative_to(top)):
            left = min(left, _left_in(folder, *names))
    return left


def _left_in(folder: Path, limit: str, usage: str) -> float:
    """Return limit minus usage, without cached files that the system can drop; infinity if there is no limit."""
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return math.inf
    droppable = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
    return math.inf if most == "max" else int(most) - used + droppable


class _MallInfo(ctypes.Structure):
    """The struct that mallinfo2(3) returns."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _kept_by_c_library() -> int:
    """Return the freed bytes that glibc, from 2.33 on, keeps for later allocations."""
    if platform.libc_ver()[0] != "glibc":
        return 0
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _MallInfo
    return int(mallinfo().fordblks)
