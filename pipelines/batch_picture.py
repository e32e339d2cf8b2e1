"""A picture of training samples: raw data of every scale, and the classes over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from textwrap import fill

import gunpowder as gp
import numpy as np
from funlib.geometry import Roi
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

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

__all__ = ["draw_batch"]

_PANEL = 2.2  # inches
_FIELD_COLOURS = ("deepskyblue", "magenta", "lime", "orangered")
_TARGET_COLOUR = "gold"
_HALO = [withStroke(linewidth=3, foreground="black")]


def draw_batch(
    batch: gp.Batch,
    raw: Sequence[gp.ArrayKey],
    targets: Mapping[gp.ArrayKey, gp.ArrayKey | None],
    classes: Sequence[str],
    *,
    before: gp.Batch | None = None,
    world: World | None = None,
    intensities: tuple[float, float] = (0.0, 1.0),
    captions: Sequence[str] = (),
) -> Figure:
    """Draw a batch as any chain of nodes makes it: a row of panels for each sample, or two with ``before``.

    All panels show the section in the middle of the finest target (of the finest raw array, if there is no target),
    each at its own voxel size; in two dimensions they show all there is. A panel for every raw array shows the whole of
    it, with the finer ones outlined in the colours that frame their own panels, and the target of its voxel size
    dashed. A panel for every target shows its classes over the raw data of the nearest voxel size, dark where none of
    them is annotated.

    Args:
        batch: one sample, or several stacked.
        raw: the arrays of intensities, from coarse to fine, (channel, z, y, x) or (channel, y, x). Of several channels
            the first is drawn.
        targets: those of the classes, from coarse to fine, in [0, 1], (class, z, y, x) or (class, y, x); and the mask
            of each, or None where all is annotated.
        classes: the names of the targets' channels.
        before: the same samples without augmentation, to be drawn above.
        world: that the arrays count in; its unit is 1 nm by default.
        intensities: which are black and white; integers count as fractions of what their type can hold.
        captions: one for each sample; :func:`scalenet_gp.pipelines.records.in_words` says what was drawn.

    Raises:
        KeyError: an array is not in the batch.
        ValueError: no raw arrays; an array without channels; a target with other channels than ``classes``; raw arrays
            that do not reach the section; another number of samples in ``before``, or of captions.
    """
    if not raw:
        raise ValueError("there are no raw arrays to draw; name one or more, from coarse to fine")
    drawing = _Drawing(tuple(raw), dict(targets), tuple(classes), float((world or World()).unit), intensities)
    rows = {"": drawing.samples(batch)} if before is None else {
        "before": drawing.samples(before), "augmented": drawing.samples(batch)
    }
    counts = {len(samples) for samples in rows.values()} | ({len(captions)} if captions else set())
    if len(counts) > 1:
        raise ValueError(f"the batch, before and captions have to be of as many samples, not {sorted(counts)}")
    columns, (number,) = len(raw) + len(targets), counts
    width = max(_PANEL * columns + 0.4, 5)
    tallest = max(field.roi.shape[-2] / field.roi.shape[-1] for field in next(iter(rows.values()))[0].values())
    figure = Figure(figsize=(width, number * (_PANEL * tallest * len(rows) + 0.6) + 0.6), layout="constrained")
    for index, block in enumerate(figure.subfigures(number, 1, squeeze=False)[:, 0]):
        if captions:
            line = fill(captions[index], int(width * _LETTERS))
            block.suptitle(line, x=0.01, horizontalalignment="left", fontsize="medium")
        panels = block.subplots(len(rows), columns, squeeze=False)
        for row, (name, samples) in zip(panels, rows.items(), strict=True):
            drawing.draw(row, samples[index])
            row[0].set_ylabel(name)
        for panel, title in zip(panels[0], drawing.titles(), strict=True):
            panel.set_title(title, fontsize="small")
    figure.legend(handles=drawing.legend(), loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False)
    return figure


@dataclass(frozen=True, slots=True)
class _Field:
    """An array of one sample: (C, Z, Y, X) or (C, Y, X)."""

    data: np.ndarray
    roi: Roi
    voxel_size: Coordinate


_Sample = Mapping[gp.ArrayKey, _Field]


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What is drawn of every sample: see :func:`draw_batch`. ``unit`` is that of the world in nm."""

    raw: tuple[gp.ArrayKey, ...]
    targets: Mapping[gp.ArrayKey, gp.ArrayKey | None]
    classes: tuple[str, ...]
    unit: float
    intensities: tuple[float, float]

    def samples(self, batch: gp.Batch) -> list[_Sample]:
        """The samples of a batch."""
        masks = [mask for mask in self.targets.values() if mask is not None]
        fields = {key: _fields(key, batch[key]) for key in (*self.raw, *self.targets, *masks)}
        for target in self.targets:
            if (channels := len(fields[target][0].data)) != len(self.classes):
                raise ValueError(f"{target} has {channels} channels for the classes {', '.join(self.classes)}")
        return [dict(zip(fields, sample, strict=True)) for sample in zip(*fields.values(), strict=True)]

    def draw(self, row: Sequence[Axes], sample: _Sample) -> None:
        """A row of panels: raw arrays, then targets."""
        finest = sample[[*self.raw, *self.targets][-1]]
        middle = middle_section(finest.roi, finest.voxel_size)
        pictures = {key: as_greys(section(sample[key].data, sample[key].roi, middle)[0], self.intensities) for key in self.raw}
        for index, (panel, key) in enumerate(zip(row, self.raw, strict=False)):
            show(panel, pictures[key], self._extent(sample[key].roi))
            for finer, colour in zip(self.raw[index + 1 :], _colours(index + 1), strict=False):
                self._outline(panel, sample[finer].roi, colour)
            for target in self.targets:
                if sample[target].voxel_size == sample[key].voxel_size:
                    self._outline(panel, sample[target].roi, _TARGET_COLOUR, linestyle="--")
            _frame(panel, next(_colours(index)) if index else "black")
        for panel, (target, mask) in zip(row[len(self.raw) :], self.targets.items(), strict=True):
            field = sample[target]
            true = section(field.data, field.roi, middle)
            annotated = np.ones_like(true) if mask is None else section(sample[mask].data, field.roi, middle)
            nearest = min(self.raw, key=lambda key: abs(log(prod(sample[key].voxel_size) / prod(field.voxel_size))))
            background = _cut(pictures[nearest], sample[nearest], field)
            show(panel, true_classes(true, annotated, background), self._extent(field.roi))
            _frame(panel, _TARGET_COLOUR)
        for panel in row:
            scale_bar(panel)
