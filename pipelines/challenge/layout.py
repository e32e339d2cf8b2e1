"""Places of predictions in a folder, and lists of crops and classes for messages."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from scalenet_gp.errors import ConfigError

__all__ = ["DEFAULT_LAYOUT", "check_layout", "list_classes", "place_of", "segments_of"]

DEFAULT_LAYOUT = "{crop}/{label}"

_NAMES = ("dataset", "crop", "label")


def check_layout(layout: str, names: Sequence[str] = _NAMES, option: str = "--layout") -> None:
    """Check that a layout names nothing but the dataset, the crop and the class, or those of them that are given.

    Raises:
        ConfigError: it does not.
    """
    try:
        fields = [name for _, name, *_ in string.Formatter().parse(layout) if name is not None]
    except ValueError as error:
        raise ConfigError(f"{option} {layout!r}: {error}") from error
    if odd := [name for name in fields if name not in names]:
        known = ", ".join(f"{{{name}}}" for name in names)
        raise ConfigError(f"{option} {layout!r} names {{{odd[0]}}}; it can name {known}")


def place_of(folder: Path, layout: str, names: Mapping[str, str]) -> Path:
    """Return the path of the prediction that a layout names."""
    return folder / layout.format_map(names)


def segments_of(segments: Path | None, crop: str, label: str) -> Path | None:
    """Return the path of the objects of a class in a folder that ``segment_crops`` made; None if there are none."""
    if segments is None:
        return None
    path = segments / f"{crop}.zarr" / label
    return path if path.is_dir() else None


def list_classes(pairs: Iterable[tuple[str, str]], most: int = 20) -> str:
    """Return crops and their classes for a message: ``crop1: mito, nuc; crop2: mito``. After ``most`` of them it ends.

    Example:
        >>> list_classes([("crop2", "mito"), ("crop1", "nuc"), ("crop2", "ecs")])
        'crop2: mito, ecs; crop1: nuc'
    """
    of_crop: dict[str, list[str]] = {}
    listed = list(pairs)
    for crop, label in listed[:most]:
        of_crop.setdefault(crop, []).append(label)
    rest = f"; and {len(listed) - most} more" if len(listed) > most else ""
    return "; ".join(f"{crop}: {', '.join(labels)}" for crop, labels in of_crop.items()) + rest
