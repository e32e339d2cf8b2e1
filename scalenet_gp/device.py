"""Where a network runs."""

from __future__ import annotations

import torch

__all__ = ["choose_device"]


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
        raise ValueError(f"{name!r} is no device; here are {', '.join(there)}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} was asked for by name and is not here; here are {', '.join(there)}")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(f"device {name!r} cannot be used here ({error}); here are {', '.join(there)}") from error
    return device
