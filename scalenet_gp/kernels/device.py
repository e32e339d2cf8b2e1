"""Devices, and settings of the process for the processor."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping

import torch

from scalenet_gp.errors import ArgumentError

__all__ = ["choose_device", "find_device", "keep_freed_memory", "return_freed_memory", "set_deterministic_mkl"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8  # mallopt(3)


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """Return the device of that name; without a name the first GPU, or the processor if there is no GPU.

    Raises:
        ArgumentError: there is no such device here; the message lists the devices.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = find_device(name)
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ArgumentError(f"device {name!r} cannot be used here ({error}); here are {_devices_here()}") from error
    return device


def find_device(name: str | torch.device) -> torch.device:
    """Return the device of that name, without using it: a GPU is left to the processes that will.

    Raises:
        ArgumentError: there is no such device here; the message lists the devices.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentError(f"{name!r} is not a device; here are {_devices_here()}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ArgumentError(f"device {name!r} was asked for by name and is not here; here are {_devices_here()}")
    return device


def _devices_here() -> str:
    return ", ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])


def keep_freed_memory() -> bool:
    """Let the C library keep the memory that tensors on the processor free, for the tensors to come.

    Otherwise it returns large blocks to the system, and the system clears each page again when it is used next: with
    activations of hundreds of megabytes that is a large part of a pass. All threads that start later use one heap then,
    as the heaps of threads hold no large blocks. The process stays as large as it once was, and grows by about half of
    the tensors' size, as they leave gaps.

    The setting holds for the whole process and cannot be undone. So programs call it, at their start and before there
    are other threads; libraries never do.

    Returns:
        True if the C library can do so; glibc can.
    """
    # no block by mmap, which would go back when freed, and nothing of the heap goes back
    return _set_allocation({_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 2**28, _ARENA_MAX: 1})


def return_freed_memory() -> bool:
    """Let the C library return large blocks to the system as soon as they are free.

    Otherwise it learns from freed blocks to keep those of up to 32 MiB, in a heap for each thread: three threads
    that sort the edges of small blocks took 1.6 times as much. Programs call it at their start; libraries never do.

    Returns:
        True if the C library can do so; glibc can.
    """
    return _set_allocation({_MMAP_THRESHOLD: 2**20, _ARENA_MAX: 1})


def _set_allocation(settings: Mapping[int, int]) -> bool:
    """Set parameters of the C library's allocation; returns whether it took them all."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    taken = [mallopt(setting, value) == 1 for setting, value in settings.items()]  # each is tried
    return all(taken)


def set_deterministic_mkl() -> None:
    """Make matrix products on the processor the same to the bit for any number of threads.

    Intel's MKL, which computes them in torch's builds, chooses the order of its sums by the number of threads and by
    the processor, unless it is told otherwise. It is told an order that all processors with AVX2 share. Call this
    before the first product of the process. A value of the environment variable ``MKL_CBWR`` is left as it is. No other
    part of torch's inference was seen to depend on threads.

    Source: Intel's guide to oneMKL, "Obtaining Numerically Reproducible Results".
    """
    os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
