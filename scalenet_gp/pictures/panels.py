"""Pictures of sections: raw data, and classes as colors."""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = [
    "as_bytes",
    "class_colors",
    "class_legend",
    "enlarge",
    "outline",
    "overlay",
    "side_by_side",
    "stack_rows",
    "to_grey",
]

_PALETTE = (
    (31, 119, 180),
    (255, 127, 14),
    (44, 160, 44),
    (214, 39, 40),
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
    (127, 127, 127),
    (188, 189, 34),
    (23, 190, 207),
)
"""Ten colors, as bytes: matplotlib's "tab10", by Tableau."""

Box = tuple[tuple[float, float], tuple[float, float]]
"""The first row and the row past the last, then the same for columns, in pixels."""


def to_grey(section: np.ndarray) -> np.ndarray:
    """Return a section (Y, X) of intensities in [0, 1] as colors (Y, X, 3); black where it is not a number."""
    return np.repeat(_shares(section)[..., None], 3, axis=-1).astype(np.float32)


def class_colors(count: int) -> np.ndarray:
    """Return a color in [0, 1] for each class, (count, 3). There are ten colors; an eleventh class has the first."""
    palette = np.array(_PALETTE, dtype=np.float64) / 255
    return palette.astype(np.float32)[np.arange(count) % len(palette)]


def overlay(classes: np.ndarray, background: np.ndarray | None = None, opacity: float = 0.6) -> np.ndarray:
    """Return classes as colors (Y, X, 3), laid over a background.

    Args:
        classes: (C, Y, X), values in [0, 1]. Values that are not numbers leave the background as it is.
        background: colors (Y, X, 3) in [0, 1]. By default it is black.
        opacity: opacity of a class of value 1, over a background.
    """
    colors = class_colors(len(classes))
    picture = np.zeros((*classes.shape[1:], 3), np.float32) if background is None else background.copy()
    for values, color in zip(_shares(classes), colors, strict=True):
        share = (opacity if background is not None else 1) * values[..., None].astype(np.float32)
        picture = picture * (1 - share) + color * share
    return picture


def as_bytes(picture: np.ndarray) -> np.ndarray:
    """Return colors in [0, 1] as bytes from 0 to 255."""
    return np.rint(picture * 255).astype(np.uint8)


def enlarge(picture: np.ndarray, factor: int) -> np.ndarray:
    """Return a picture (Y, X, 3) with every voxel as a square of ``factor`` pixels a side."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def outline(picture: np.ndarray, box: Box, color: str, width: int) -> np.ndarray:
    """Return a picture with a line along the inside of a box's edges, as far as they lie in the picture.

    Args:
        picture: (Y, X, 3), bytes; it stays as it is.
        box: the box, in pixels, rounded to whole ones.
        color: name of the line's color in matplotlib.
        width: width of the line, in pixels.
    """
    from matplotlib.colors import to_rgb

    within, at_edge = [], []
    for (begin, end), size in zip(box, picture.shape, strict=False):
        first, past, pixels = round(begin), round(end), np.arange(size)
        within.append((pixels >= first) & (pixels < past))
        at_edge.append((pixels < first + width) | (pixels >= past - width))
    line = np.logical_and.outer(*within) & np.logical_or.outer(*at_edge)
    return np.where(line[..., None], as_bytes(np.asarray(to_rgb(color))), picture)


def side_by_side(*pictures: np.ndarray, gap: int = 2) -> np.ndarray:
    """Return pictures (Y, X, 3), bytes, of the same height as a row, with white gaps of ``gap`` pixels."""
    height = pictures[0].shape[0]
    row: list[np.ndarray] = []
    for picture in pictures:
        row += [picture, np.full((height, gap, 3), 255, np.uint8)]
    return np.concatenate(row[:-1], axis=1)


def stack_rows(*pictures: np.ndarray) -> np.ndarray:
    """Return pictures (Y, X, 3), bytes, as a column, aligned left, with white to the right of narrower ones."""
    width = max(picture.shape[1] for picture in pictures)
    widened = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    return np.concatenate(widened, axis=0)


@cache
def class_legend(names: tuple[str, ...], width: int) -> np.ndarray:
    """Return the names of classes beside their colors, on white, (Y, X, 3), bytes.

    A row has as many names as fit into ``width`` pixels. The legend is wider only if a single name is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    canvas = FigureCanvasAgg(Figure(dpi=100))
    handles = [Patch(color=color, label=name) for name, color in zip(names, class_colors(len(names)), strict=True)]
    for columns in range(len(names), 0, -1):
        legend = canvas.figure.legend(handles=handles, ncols=columns, loc="lower left", frameon=False, borderaxespad=0)
        extent = legend.get_window_extent(canvas.get_renderer())
        if extent.width <= width or columns == 1:
            break
        legend.remove()
    # whole pixels, plus one for rounding
    canvas.figure.set_size_inches((int(extent.width) + 1) / 100, (int(extent.height) + 1) / 100)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _shares(values: np.ndarray) -> np.ndarray:
    """Return values clipped to [0, 1]; 0 where they are not numbers."""
    return np.clip(np.nan_to_num(values, posinf=1, neginf=0), 0, 1)
