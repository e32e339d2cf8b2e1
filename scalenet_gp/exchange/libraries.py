"""The libraries of other programs' formats, which the extra ``import`` installs, and numbers as those write them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib import import_module
from typing import Any

from scalenet_gp.errors import ArgumentError, ScaleNetError, VolumeFormatError

__all__ = ["library", "rounded", "unreadable_as"]


def library(name: str, path: str) -> Any:
    """Return a module that the file at ``path`` needs.

    Raises:
        ArgumentError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ArgumentError(
            f"{path}: files of this format need the package {name.partition('.')[0]}; install it with "
            "pip install 'scalenet_gp[import]'"
        ) from error


def rounded(length: float | str) -> Fraction:
    """Return the decimal of six digits that a float of single precision, or a ratio of integers, was meant to be."""
    return Fraction(format(float(length), ".6g"))


@contextmanager
def unreadable_as(path: str, kind: str) -> Iterator[None]:
    """Raise whatever a library complains of in a file as an error of the file.

    Raises:
        VolumeFormatError: the library raised an error that is not one of the operating system's.
    """
    try:
        yield
    except (ScaleNetError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise VolumeFormatError(f"{path}: not readable as {kind}: {error}") from error
    except Exception as error:  # every library has its own kinds
        raise VolumeFormatError(f"{path}: not readable as {kind}: {error}") from error
