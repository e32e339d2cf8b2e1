"""The part ``segmentation`` of a run file: how the objects of each class are found in a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Self

from pydantic import Field, model_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Options, suggest
from scalenet_gp.segmentation import AffinityMethod, SegmentationMethod

__all__ = ["FRAGMENTS", "SegmentationConfig"]

FRAGMENTS = "_fragments"
"""Suffix of the volume of fragments: ``neurons_fragments`` holds those of ``neurons``."""


class SegmentationConfig(Options):
    """Segmentation of a prediction: the objects of each class, and objects by affinities.

    Attributes:
        classes: the method of each class, by its name; ``"*"`` stands for all other classes, and a class that no name
            matches is not segmented. All classes are by default.
        objects: the method of objects that affinities make, by the name that their volume gets. None by default.

    Example:
        >>> config = SegmentationConfig.create(classes={"mito": {"smallest": 1e6}, "*": {}})
        >>> config.methods(["mito", "nucleus"])["mito"].smallest
        Fraction(1000000, 1)
    """

    classes: dict[str, SegmentationMethod] = Field(default={"*": {}}, validate_default=True)
    objects: dict[str, AffinityMethod] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_of_folders(self) -> Self:
        for name in self.objects:
            if not name or name.startswith(".") or set(name) & set("/\\*?[") or name.endswith(FRAGMENTS):
                raise ConfigError(
                    f"objects.{name} cannot be a folder: give a name without / \\ * ? [, which begins with no dot and "
                    f"does not end in {FRAGMENTS}"
                )
        return self

    def methods(self, classes: Sequence[str]) -> dict[str, SegmentationMethod]:
        """Return the method of each of some classes that is segmented: see :meth:`method`.

        Raises:
            ConfigError: a pattern is of none of the classes.
        """
        for pattern in self.classes:
            if pattern != "*" and not any(fnmatchcase(name, pattern) for name in classes):
                raise ConfigError(f"segmentation.classes.{pattern} is of no class; {suggest(pattern, classes)}")
        found = {name: self.method(name) for name in classes}
        return {name: options for name, options in found.items() if options is not None}

    def method(self, name: str) -> SegmentationMethod | None:
        """Return the method of a class: that of the first pattern which matches; None if it is not segmented."""
        return next((options for pattern, options in self.classes.items() if fnmatchcase(name, pattern)), None)
