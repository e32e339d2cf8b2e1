"""Functions that numba compiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

__all__ = ["numba_jit"]

Function = TypeVar("Function", bound=Callable[..., Any])


def numba_jit(function: Function) -> Function:
    """Compile ``function`` at its first call, to run without Python's lock, and keep the machine code on disk.

    If neither the package's folder nor the user's cache can be written, every process compiles it anew. numba itself is
    imported at the first call.
    """
    result: Any = _Compiled(function)
    return result


class _Compiled:
    """A function that is compiled when it is first called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Any = None
        update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._dispatcher()(*args, **kwargs)

    @property
    def _numba_type_(self) -> Any:
        """The type by which numba knows the function where another compiled function calls it."""
        return self._dispatcher()._numba_type_

    def _dispatcher(self) -> Any:
        if self._compiled is None:
            from numba import njit  # imported here, as it takes a fifth of a second

            try:
                self._compiled = njit(nogil=True, cache=True)(self._function)
            except RuntimeError:
                self._compiled = njit(nogil=True)(self._function)
        return self._compiled
