"""Functions that numba compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

__all__ = ["numba_jit"]

Function = TypeVar("Function", bound=Callable[..., Any])


def numba_jit(function: Function) -> Function:
    """Compile ``function`` at its first call, to run without Python's lock, and keep the machine code on disk.

    Where neither the package's folder nor the user's cache can be written, it is compiled anew by every process.
    """
    result: Any
    try:
        result = njit(nogil=True, cache=True)(function)
    except RuntimeError:
        result = njit(nogil=True)(function)
    return result
