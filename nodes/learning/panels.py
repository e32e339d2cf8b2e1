"""Pictures of sections: raw data, and classes as colours."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np

__all__ = ["class_colours", "grey", "overlay", "side_by_side"]


def grey(section: np.ndarray) -> np.ndarray:
    """A section (Y, X) of intensities in [0, 1] as colours (Y, X, 3)."""
    return np.repeat(np.clip(section, 0, 1)[..., None], 3, axis=-1).astype(np.float32)


def class_colours(count: int) -> np.ndarray:
    """One colour for each class, (count, 3), as far apart as a palette of ten allows."""
    palette = np.asarray(mpl.color_sequences["tab10"], dtype=np.float32)
    return palette[np.arange(count) % len(palette)]


def overlay(classes: np.ndarray, background: np.ndarray | None = None, opacity: float = 0.6) -> np.ndarray:
    """Classes (C, Y, X) with values in [0, 1] as colours (Y, X, 3), laid over ``background`` (Y, X, 3) or black."""
    colours = class_colours(len(classes))
    picture = np.zeros((*classes.shape[1:], 3), np.float32) if background is None else background.copy()
    for values, colour in zip(np.clip(classes, 0, 1), colours, strict=True):
        share = (opacity if background is not None else 1) * values[..., None].astype(np.float32)
        picture = picture * (1 - share) + colour * share
    return picture


def side_by_side(*pictures: np.ndarray, gap: int = 2) -> np.ndarray:
    """Pictures (Y, X, 3) of one height in a row, white between them."""
    height = pictures[0].shape[0]
    row: list[np.ndarray] = []
    for picture in pictures:
        row += [picture, np.ones((height, gap, 3), np.float32)]
    return np.concatenate(row[:-1], axis=1)
