"""A picture of a tissue mask: the raw data, the mask's outline, and its confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scalenet_gp.geometry import format_size
from scalenet_gp.pictures import to_grey
from scalenet_gp.pipelines.plots.drawing import halo, scale_bar, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_mask"]

_MOST_PIXELS = 1024  # along an edge of a panel; a longer edge is drawn with every second, third, ... voxel

Read = Callable[[Sequence[int], Sequence[int]], np.ndarray]
"""Reads the voxels from a begin to an end, both counted from the corner of the volume."""


def draw_mask(
    raw: Read, mask: Read, confidence: Read, shape: Sequence[int], voxel_size: Sequence[Fraction], output: Path
) -> Path:
    """Draw the sections through the middle along every axis: raw data above, confidence below, both with the outline.

    Args:
        raw: reads intensities.
        mask: reads 1 where there is tissue.
        confidence: reads the confidence, in [0, 1].
        shape: shape of all three, voxels.
        voxel_size: nm.
        output: PNG file to make.
    """
    from matplotlib.figure import Figure

    axes = (0, 1, 2) if len(shape) == 3 else (None,)
    figure = Figure(figsize=(4.2 * len(axes) + 0.6, 8), layout="constrained")
    panels = figure.subplots(2, len(axes), squeeze=False)
    for axis, (upper, lower) in zip(axes, panels.T, strict=True):
        kept = [a for a in range(len(shape)) if a != axis]
        begin, end = [0] * len(shape), list(shape)
        if axis is not None:
            begin[axis] = shape[axis] // 2
            end[axis] = begin[axis] + 1
        step = tuple(slice(None, None, -(-shape[a] // _MOST_PIXELS)) for a in kept)
        boxes = (read(begin, end) for read in (raw, mask, confidence))
        image, found, sure = ((box if axis is None else box.take(0, axis))[step].astype(np.float32) for box in boxes)
        height, width = (float(shape[a] * voxel_size[a]) for a in kept)
        low, high = np.percentile(image, (0.5, 99.5))
        shown = (image - low) / max(high - low, np.finfo(np.float32).tiny)
        show(upper, to_grey(shown), (0, width, height, 0))
        lower.imshow(sure, extent=(0, width, height, 0), vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
        lower.set_xticks([])
        lower.set_yticks([])
        for panel in (upper, lower):
            _outline(panel, found, width, height)
        scale_bar(upper)
        plane = " ".join("zyx"[a + 3 - len(shape)] for a in kept)
        upper.set_title(f"{plane}: {found.mean():.0%} tissue")
    panels[0][0].set_ylabel("outline of the mask")
    panels[1][0].set_ylabel("confidence")
    figure.colorbar(panels[1][-1].images[0], ax=list(panels[1]), shrink=0.7)
    figure.suptitle(f"voxels of {format_size(voxel_size)} nm")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    return output


def _outline(panel: Axes, mask: np.ndarray, width: float, height: float) -> None:
    """Draw the border between tissue and the rest, where there is one."""
    if mask.min() == mask.max() or min(mask.shape) < 2:
        return
    rows, columns = ((np.arange(n) + 0.5) * length / n for n, length in zip(mask.shape, (height, width), strict=True))
    lines = panel.contour(columns, rows, mask, levels=[0.5], colors="orange", linewidths=1.5)
    lines.set_path_effects(halo())
