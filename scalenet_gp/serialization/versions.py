"""Versions of packages, to write into files."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

__all__ = ["package_versions"]


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of Python and of each package; ``"not installed"`` if a package runs from a folder.

    Example:
        >>> sorted(package_versions(["torch"]))
        ['python', 'torch']
    """
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
