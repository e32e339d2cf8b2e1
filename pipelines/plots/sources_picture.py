"""A picture of the sources of a run: a section of each, with its classes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import gunpowder as gp
import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.nodes import ClassTargets
from scalenet_gp.pipelines.data import Dataset
from scalenet_gp.pipelines.plots.drawing import (
    as_greys,
    class_patches,
    middle_section,
    scale_bar,
    section,
    show,
    true_classes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_sources"]

_EDGE = 256
"""Voxels along an edge of a panel, at most."""

_MOST = 100
_COLUMNS = 6
_SMALLEST = 5
"""Inches of the narrowest picture, which has to hold the legend."""

_ENTRY = 1.2
"""Inches of an entry of the legend."""


def draw_sources(datasets: Iterable[Dataset], count: int, output: Path) -> Path:
    """Draw the middle section of the annotated part of each source, dark where no class is known.

    Grey values are stretched from the darkest to the brightest voxel of the section.

    Args:
        datasets: the sources, each opened when it is drawn.
        count: the number of them; the first hundred are drawn.
        output: PNG file to make.

    Returns:
        ``output``.
    """
    from matplotlib.figure import Figure

    panels = min(count, _MOST)
    columns = min(panels, _COLUMNS)
    rows = math.ceil(panels / columns)
    edge = max(2.5, _SMALLEST / columns)  # inches
    figure = Figure(figsize=(edge * columns, 1.1 * edge * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    names: tuple[str, ...] = ()
    for panel, dataset in zip(axes, datasets, strict=False):
        names = tuple(dataset.groups)
        _draw(panel, dataset)
        panel.set_title(dataset.source.name, fontsize=8)
    for panel in axes[panels:]:
        panel.set_axis_off()
    legend = min(len(names), int(edge * columns / _ENTRY))
    figure.legend(handles=class_patches(names), loc="outside lower center", ncols=legend, frameon=False, fontsize=8)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    return output


def _draw(panel: Axes, dataset: Dataset) -> None:
    size = dataset.net.voxel_size[dataset.finest]
    labelled = dataset.labelled()
    shape = Coordinate(min(int(n), _EDGE) for n in labelled.shape / size) * size
    begin = labelled.begin + (labelled.shape - shape) / size / 2 * size
    middle = middle_section(Roi(begin, shape), size)
    target, mask = gp.ArrayKey("DRAWN"), gp.ArrayKey("DRAWN_MASK")
    classes = ClassTargets(
        dataset.class_volumes(), {target: size}, {target: mask}, dataset.world, groups=dataset.groups
    )
    reading = classes.start(gp.BatchRequest({key: gp.ArraySpec(roi=middle) for key in (target, mask)}))
    raw = dataset.raw.read(middle, size, dataset.world, padding="constant")
    image, true, known = (section(data, middle, middle) for data in (raw, reading[target](), reading[mask]()))
    values = image[0].astype(np.float32)
    low, high = float(values.min()), float(values.max())
    background = as_greys(values, (low, high if high > low else low + 1))
    lengths = dataset.world.size_in_nm(middle.shape)
    show(panel, true_classes(true, known, background), (0, float(lengths[-1]), float(lengths[-2]), 0))
    scale_bar(panel)
