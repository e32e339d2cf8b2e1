"""Parts that the pictures of jobs share: the section that is drawn, its panel, scale bar and legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import DataError
from scalenet_gp.pictures import class_colors, overlay, to_grey

__all__ = [
    "as_greys",
    "class_patches",
    "halo",
    "middle_section",
    "scale_bar",
    "section",
    "show",
    "spread_channels",
    "true_classes",
]

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.patheffects import AbstractPathEffect


def halo() -> list[AbstractPathEffect]:
    """Return the effect that sets lines and letters off from the picture below them."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="black")]


def middle_section(roi: Roi, voxel_size: Coordinate) -> Roi:
    """Return the section (one voxel in z) through the middle of a ROI; in two dimensions all of it."""
    if roi.dims == 2:
        return roi
    voxels = roi.shape[0] // voxel_size[0]
    begin = (roi.begin[0] + (voxels // 2) * voxel_size[0], *roi.begin[1:])
    return Roi(begin, (voxel_size[0], *roi.shape[1:]))


def section(data: np.ndarray, roi: Roi, wanted: Roi) -> np.ndarray:
    """Return the section (C, Y, X) of an array (C, Z, Y, X) that holds the middle of ``wanted``; all of (C, Y, X).

    Args:
        data: values of the array.
        roi: ROI of the array.
        wanted: a section, of any voxel size.

    Raises:
        DataError: the array does not reach so far.
    """
    if roi.dims == 2:
        return data
    depth = data.shape[1]
    # in half world units, so that the middle is a whole number
    index = int(2 * wanted.begin[0] + wanted.shape[0] - 2 * roi.begin[0]) * depth // int(2 * roi.shape[0])
    if not 0 <= index < depth:
        raise DataError(f"an array in {roi} does not reach the section {wanted}, in which the others are drawn")
    return data[:, index]


def as_greys(image: np.ndarray, intensities: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Return a section of intensities (Y, X) as greys (Y, X, 3).

    Args:
        image: intensities; integers count as fractions of the range of their type.
        intensities: the intensities that are black and white.
    """
    low, high = intensities
    values = image / np.iinfo(image.dtype).max if image.dtype.kind in "iu" else image
    return to_grey((values - low) / (high - low))


def spread_channels(values: np.ndarray, names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return channels (C, Y, X) with these names as one for each of ``classes``, 0 where there is no such channel."""
    spread = np.zeros((len(classes), *values.shape[1:]), values.dtype)
    for name, channel in zip(names, values, strict=True):
        if name in classes:
            spread[classes.index(name)] = channel
    return spread


def true_classes(classes: np.ndarray, annotated: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Draw classes over raw data, dark where none of them is annotated.

    Args:
        classes: (C, Y, X), in [0, 1].
        annotated: (C, Y, X) or, alike for all classes, (1, Y, X); 1 where the class is known.
        background: raw data, (Y, X, 3).

    Returns:
        Colors (Y, X, 3).
    """
    return overlay(classes, background) * (0.4 + 0.6 * annotated.max(axis=0)[..., None])


def show(panel: Axes, picture: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    """Show a picture voxel by voxel, without ticks; ``extent`` is left, right, bottom, top."""
    panel.imshow(picture, extent=extent, interpolation="nearest")
    panel.set_xticks([])
    panel.set_yticks([])


def scale_bar(panel: Axes) -> None:
    """Draw a bar of a round length, about a fifth of a panel that shows an extent in nm."""
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    width, height = right - left, bottom - top
    round_lengths = (step * 10.0**power for power in range(-2, 9) for step in (1, 2, 5))
    length = max(candidate for candidate in round_lengths if candidate <= width / 5)
    begin, level = left + 0.04 * width, top + 0.95 * height
    panel.plot([begin, begin + length], [level] * 2, color="white", linewidth=3, path_effects=halo())
    label = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    panel.annotate(
        label,
        (begin, level),
        xytext=(0, 4),
        textcoords="offset points",
        color="white",
        va="bottom",
        path_effects=halo(),
    )


def class_patches(classes: Sequence[str]) -> list[Artist]:
    """Return a legend's entries for the classes."""
    from matplotlib.patches import Patch

    colors = class_colors(len(classes))
    return [Patch(color=color, label=label) for color, label in zip(colors, classes, strict=True)]
