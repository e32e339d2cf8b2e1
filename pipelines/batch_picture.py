"""A picture of training samples: raw data of every scale, and the classes over it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

import gunpowder as gp
import numpy as np
from funlib.geometry import Coordinate, Roi
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from scalenet_gp.nodes.deformation import Deformation
from scalenet_gp.nodes.panels import overlay
from scalenet_gp.pipelines.drawing import (
    LEGEND_COLUMNS,
    as_greys,
    class_patches,
    middle_section,
    scale_bar,
    section,
    show,
    true_classes,
)
from scalenet_gp.world import World, format_size

__all__ = ["draw_batch", "what_was_drawn"]

_PANEL = 2.1  # inches
_FIELD_COLOURS = ("deepskyblue", "magenta", "lime", "orangered")
_TARGET_COLOUR = "gold"
_HALO = [withStroke(linewidth=3, foreground="black")]


def draw_batch(
    batch: gp.Batch | Sequence[gp.Batch],
    raw: Sequence[gp.ArrayKey],
    targets: Mapping[gp.ArrayKey, gp.ArrayKey | None],
    classes: Sequence[str],
    *,
    before: gp.Batch | Sequence[gp.Batch] | None = None,
    world: World | None = None,
    intensities: tuple[float, float] = (0.0, 1.0),
    captions: Sequence[str] | None = None,
) -> Figure:
    """Draw the samples of a batch, as any chain of nodes makes them: a row for each, or two.

    All panels show the section through the middle of the finest target (the finest raw array, if there is no target),
    each at its own voxel size; in two dimensions, all there is. A panel for every raw array shows all of it, with the
    finer ones outlined in the colours that frame their own panels, and the target of its voxel size dashed. A panel for
    every target shows its classes over the raw array of the nearest voxel size; it is dark where no class is annotated.

    Args:
        batch: one batch, of one sample or stacked, or several of one sample each.
        raw: the arrays of intensities, from coarse to fine, (channel, z, y, x) or (channel, y, x). Of several channels
            the first is drawn.
        targets: those of the classes, from coarse to fine, in [0, 1], (class, z, y, x) or (class, y, x); and the mask
            of each, or None where all is annotated.
        classes: the names of the targets' channels.
        before: the same samples without augmentation, to be drawn above.
        world: that the arrays count in; its unit is 1 nm by default.
        intensities: which are black and white; integers count as fractions of what their type can hold.
        captions: a line for each sample; what :func:`what_was_drawn` says unless given.

    Raises:
        KeyError: an array is not in the batch.
        ValueError: there is nothing to draw; arrays lack axes or have too many; a target has other channels than
            ``classes``; raw arrays do not reach the section; ``before`` has another number of samples than ``batch``,
            or there is not a caption for each.
    """
    if not raw:
        raise ValueError("no raw arrays: name at least one to draw")
    batches = [batch] if isinstance(batch, gp.Batch) else list(batch)
    if captions is None and all(batches[0][raw[-1]].data.ndim < batches[0][raw[-1]].spec.roi.dims + 2 for _ in batches):
        captions = [what_was_drawn(one, world) for one in batches]
    keys = [*raw, *targets, *(mask for mask in targets.values() if mask is not None)]
    rows = {"as drawn": _samples(batches, keys)}
    if before is not None:
        unchanged = _samples([before] if isinstance(before, gp.Batch) else list(before), keys)
        if len(unchanged) != len(rows["as drawn"]):
            raise ValueError(f"before has {len(unchanged)} samples, the batch has {len(rows['as drawn'])}")
        rows = {"before": unchanged, "augmented": rows["as drawn"]}
    ...
    return Figure()
