"""Where a network runs."""

from __future__ import annotations

import ctypes
import os
import platform

import torch

from scalenet_gp.errors import ArgumentError

__all__ = ["choose_device", "keep_freed_memory", "set_deterministic_mkl"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # mallopt(3)


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name; without one the first GPU if there is any, else the processor.

    Raises:
        ValueError: the named device is not there; the message lists those that are.
    """
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentError(f"{name!r} is no device; here are {', '.join(there)}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ArgumentError(f"device {name!r} was asked for by name and is not here; here are {', '.join(there)}")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ArgumentError(f"device {name!r} cannot be used here ({error}); here are {', '.join(there)}") from error
    return device


def keep_freed_memory() -> bool:
    """Have the C library keep the memory that tensors on the processor let go of, for the tensors to come.

    It hands large blocks back to the system otherwise, and the system clears each page again when it is touched next:
    with activations of hundreds of megabytes that is a large part of a pass. And all threads that begin later take from
    one heap, as each would keep its own otherwise, and those of threads hold no large blocks. The price is that the
    process stays as large as it once was, and that it grows larger: by about half of what the tensors take, as they
    leave gaps. This holds for the whole process and cannot be taken back, so it is for programs to call, at their
    start, before there are other threads, and never for libraries.

    Returns:
        Whether the C library can do so; glibc can.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # no block by mmap, which would go back when freed, and nothing of the heap goes back
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 2**28, _ARENA_MAX: 1}
    taken = [mallopt(setting, value) == 1 for setting, value in settings.items()]  # each is tried
    return all(taken)


def set_deterministic_mkl() -> None:
    """Have matrix products on the processor come out the same to the bit, however many threads compute them.

    Intel's MKL, which computes them in torch's builds, chooses the order of its sums by the number of threads unless
    it is told otherwise, and by the processor, so it is told one that all with AVX2 share. It has to be told before the
    first product of the process; what the environment variable ``MKL_CBWR`` says already is left. No other part of
    torch's inference was seen to depend on threads.

    Source: Intel's guide to oneMKL, "Obtaining Numerically Reproducible Results".
    """
    os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
