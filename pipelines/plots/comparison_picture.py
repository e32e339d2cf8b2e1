"""A picture of several networks' predictions of the same section, beside raw data and truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gunpowder as gp
import numpy as np

from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.pictures import overlay
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.data import Dataset, choose_source, predicted_sources
from scalenet_gp.pipelines.plots.drawing import (
    as_greys,
    class_patches,
    middle_section,
    scale_bar,
    section,
    show,
    spread_channels,
    true_classes,
)
from scalenet_gp.volumes import StrPath

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["comparison_figure", "draw_comparison"]

_PANEL = 3.0  # inches, the width


def draw_comparison(
    sides: Mapping[str, tuple[Config, Path]],
    volume: StrPath,
    output: Path,
    classes: Sequence[str],
    exclusive: Sequence[str] = (),
) -> Path:
    """Write :func:`comparison_figure` of the evaluation region, of the same arguments, to ``output``, a PNG file.

    Returns:
        ``output``.

    Raises:
        FileNotFoundError: there is no such volume, labels or prediction.
        ScaleNetError: nothing is annotated in the region, or a prediction does not cover it or has other classes.
    """
    figure = comparison_figure(sides, volume, classes, exclusive)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    return output


def comparison_figure(
    sides: Mapping[str, tuple[Config, Path]],
    volume: StrPath,
    classes: Sequence[str],
    exclusive: Sequence[str] = (),
    region: Region | None = None,
    source: str | None = None,
) -> Figure:
    """Draw the middle section of a region: raw data, truth, and the classes that each side decides on.

    All sides are drawn at the voxels of their finest output; raw data and truth at those of the first side.

    Args:
        sides: by its title, the run of each side, and the zarr group that it predicted.
        volume: folder or URL that holds the raw data and the labels.
        classes: the classes to draw.
        exclusive: those of them that exclude each other. A voxel whose probabilities of these sum to the threshold
            has the color of the most probable one, so that a wrong one is seen.
        region: the region to draw; the evaluation region unless given.
        source: name of the source of the run files; the only one unless given.

    Returns:
        The figure.

    Raises:
        FileNotFoundError: there is no such volume, labels or prediction.
        ScaleNetError: nothing is annotated in the region, or a prediction does not cover it or has other classes.
    """
    from matplotlib.figure import Figure

    panels: dict[str, np.ndarray] = {}
    extent = (0.0, 0.0, 0.0, 0.0)
    for title, (config, prediction) in sides.items():
        net = config.build_network()
        dataset = Dataset.open(volume, config, net, choose_source(config.data, volume, source))
        name = list(dataset.targets)[-1]
        roi = dataset.annotated(region or dataset.evaluation_region)
        arrays = dataset.arrays
        keys = [found[name] for found in (arrays.raw_of_outputs, arrays.predictions, arrays.targets, arrays.masks)]
        sources = predicted_sources(dataset, prediction, {name: keys[1]}, roi)
        chain = (
            dataset.inputs.see({name: keys[0]}).stored(),
            *sources,
            *dataset.target_sources(roi),
        ) + gp.MergeProvider()
        for node in dataset.target_nodes():
            chain += node
        middle = middle_section(roi, net.voxel_size[name])
        request = gp.BatchRequest({key: gp.ArraySpec(roi=middle) for key in keys})
        with build_chain(chain) as pipeline:
            batch = pipeline.request_batch(request)
        image, predicted, true, annotated = (section(batch[key].data, middle, middle) for key in keys)
        predicted, true = (spread_channels(values, dataset.channels[name], classes) for values in (predicted, true))
        background = as_greys(image[0])
        if not panels:
            panels |= {"raw": background, "truth": true_classes(true, annotated, background)}
            height, width = (
                float(s) * n for s, n in zip(net.specs[name].voxel_size[-2:], image.shape[-2:], strict=True)
            )
            extent = (0, width, height, 0)
        decided = _decide(predicted, [classes.index(label) for label in exclusive], config.evaluation.threshold)
        panels[title] = overlay(decided, background)

    figure = Figure(figsize=(_PANEL * len(panels), _PANEL * extent[2] / extent[1] + 1), layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, (title, picture) in zip(row, panels.items(), strict=True):
        show(panel, picture, extent)
        panel.set_title(title, fontsize=10)
    scale_bar(row[0])
    figure.legend(handles=class_patches(classes), loc="outside lower center", ncols=len(classes), frameon=False)
    return figure


def _decide(predicted: np.ndarray, exclusive: Sequence[int], threshold: float) -> np.ndarray:
    """Return 1 where a voxel (class, y, x) counts as a class, else 0."""
    decided = predicted >= threshold
    if exclusive:
        group = predicted[list(exclusive)]
        highest = group.argmax(axis=0) == np.arange(len(group))[:, None, None]
        decided[list(exclusive)] = highest & (group.sum(axis=0) >= threshold)
    return decided.astype(np.float32)
