"""What the pictures of the jobs share: which section is drawn, how it is laid out, and what goes on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from funlib.geometry import Coordinate, Roi
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.patheffects import AbstractPathEffect, withStroke

from scalenet_gp.errors import ConfigError
from scalenet_gp.pictures import class_colours, overlay, to_grey

__all__ = [
    "HALO",
    "as_greys",
    "class_patches",
    "middle_section",
    "scale_bar",
    "section",
    "show",
    "true_classes",
]

HALO: list[AbstractPathEffect] = [withStroke(linewidth=3, foreground="black")]
"""Keeps lines and letters apart from what they are drawn on."""


def middle_section(roi: Roi, voxel_size: Coordinate) -> Roi:
    """The section (one voxel in z) through the middle of a three-dimensional ROI; in two dimensions all of it."""
    if roi.dims == 2:
        return roi
    voxels = roi.shape[0] // voxel_size[0]
    begin = (roi.begin[0] + (voxels // 2) * voxel_size[0], *roi.begin[1:])
    return Roi(begin, (voxel_size[0], *roi.shape[1:]))


def section(data: np.ndarray, roi: Roi, wanted: Roi) -> np.ndarray:
    """The section (C, Y, X) of an array (C, Z, Y, X) that the middle of ``wanted`` lies in; of (C, Y, X) all.

    Args:
        data: of the array.
        roi: that it covers.
        wanted: a section, which may be that of another voxel size.

    Raises:
        ValueError: the array does not reach so far.
    """
    if roi.dims == 2:
        return data
    depth = data.shape[1]
    # in half world units, so that the middle is a whole number
    index = int(2 * wanted.begin[0] + wanted.shape[0] - 2 * roi.begin[0]) * depth // int(2 * roi.shape[0])
    if not 0 <= index < depth:
        raise ConfigError(f"an array in {roi} does not reach the section {wanted}, in which the others are drawn")
    return data[:, index]


def as_greys(image: np.ndarray, intensities: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """A section of intensities (Y, X) as greys (Y, X, 3).

    Args:
        image: integers count as fractions of what their type can hold.
        intensities: which are black and white.
    """
    low, high = intensities
    values = image / np.iinfo(image.dtype).max if image.dtype.kind in "iu" else image
    return to_grey((values - low) / (high - low))


def true_classes(classes: np.ndarray, annotated: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Classes over raw data, dark where none of them is annotated.

    Args:
        classes: (C, Y, X), in [0, 1].
        annotated: (C, Y, X), 1 where the class is known; of one channel if it is that for all.
        background: raw data, (Y, X, 3).
    """
    return overlay(classes, background) * (0.4 + 0.6 * annotated.max(axis=0)[..., None])


def show(panel: Axes, picture: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    """Show a picture voxel by voxel, without ticks; ``extent`` is left, right, bottom, top."""
    panel.imshow(picture, extent=extent, interpolation="nearest")
    panel.set_xticks([])
    panel.set_yticks([])


def scale_bar(panel: Axes) -> None:
    """A bar of a round length, about a fifth of a panel that shows an extent in nm."""
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    width, height = right - left, bottom - top
    round_lengths = (step * 10.0**power for power in range(-2, 9) for step in (1, 2, 5))
    length = max(candidate for candidate in round_lengths if candidate <= width / 5)
    begin, level = left + 0.04 * width, top + 0.95 * height
    panel.plot([begin, begin + length], [level] * 2, color="white", linewidth=3, path_effects=HALO)
    label = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    panel.annotate(
        label,
        (begin, level),
        xytext=(0, 4),
        textcoords="offset points",
        color="white",
        va="bottom",
        path_effects=HALO,
    )


def class_patches(classes: Sequence[str]) -> list[Artist]:
    """What a legend says of the classes."""
    colours = class_colours(len(classes))
    return [Patch(color=colour, label=label) for colour, label in zip(colours, classes, strict=True)]
