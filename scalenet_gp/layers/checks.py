"""Checks of arguments and inputs that several kinds of node share."""

from __future__ import annotations

import numpy as np

from scalenet_gp.errors import ArgumentError

__all__ = ["check_channels", "check_whole", "is_whole"]


def is_whole(number: object, least: int = 1) -> bool:
    """Return True for a whole number, Python's or numpy's, from ``least`` up; 2.0 and ``True`` are not."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool) and int(number) >= least


def check_whole(**numbers: object) -> None:
    """Raise :class:`.ArgumentError` unless each of ``numbers``, by name, is a whole number from 1 up."""
    for name, number in numbers.items():
        if not is_whole(number):
            raise ArgumentError(f"{name} is a whole number from 1 up, not {number!r}")


def check_channels(taken: int, found: int) -> None:
    """Raise :class:`.ArgumentError` unless the input of a node has as many channels as the node takes."""
    if found != taken:
        raise ArgumentError(f"it takes {taken} channels, its input has {found}")
