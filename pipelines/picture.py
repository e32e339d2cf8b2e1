"""A picture of a prediction: raw, truth and prediction at each scale."""

from __future__ import annotations

from pathlib import Path

import gunpowder as gp
import numpy as np
from funlib.geometry import Coordinate, Roi
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from scalenet_gp.nodes.panels import class_colours, grey, overlay
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.dataset import Dataset, array_keys
from scalenet_gp.pipelines.running import running
from scalenet_gp.world import format_size

__all__ = ["draw_prediction"]

_OUTLINE = [withStroke(linewidth=3, foreground="black")]
_LEGEND_COLUMNS = 6


def draw_prediction(config: Config, volume: Path, prediction: Path, output: Path, region: Region | None = None) -> Path:
    """Draw the middle section of a predicted region: a row for each scale, with raw data, truth and prediction.

    Where nothing is annotated, the truth is dark.

    Args:
        config: the run.
        volume: folder that holds the raw data and the labels.
        prediction: what :func:`scalenet_gp.pipelines.predict.predict` wrote.
        output: PNG file.
        region: what to draw; that of the evaluation unless given.

    Returns:
        ``output``.

    Raises:
        FileExistsError: there is something at ``output``.
        FileNotFoundError: there is no such volume, labels or prediction.
        ValueError: nothing is annotated in the region, or the prediction does not cover it or has other classes.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    net = config.build_network()
    dataset = Dataset.open(volume, config.data, net)
    roi = dataset.annotated(region or config.evaluation)
    names, classes = net.output_keys, config.data.classes
    # the raw data at the voxel size of each output, whose keys the source takes for the tensors to read
    raw, predictions, targets, masks = (array_keys(kind, names) for kind in ("RAW", "PREDICTION", "TARGET", "MASK"))
    sources = dataset.predicted(prediction, predictions, roi)
    chain = (dataset.source(raw), *sources, dataset.targets(targets, masks, roi)) + gp.MergeProvider()
    figure = Figure(figsize=_size(roi, len(names)), layout="constrained")
    rows = figure.subplots(len(names), 3, squeeze=False)
    with running(chain) as pipeline:
        for row, name in zip(rows, names, strict=True):
            section = _middle_section(roi, net.voxel_size[name])
            request = gp.BatchRequest()
            for keys in (raw, predictions, targets, masks):
                request[keys[name]] = gp.ArraySpec(roi=section)
            batch = pipeline.request_batch(request)
            image, predicted, true, annotated = (
                _flat(batch[keys[name]].data, net.dims) for keys in (raw, predictions, targets, masks)
            )
            background = grey(image[0] / np.iinfo(image.dtype).max if image.dtype.kind in "iu" else image[0])
            dimmed = 0.4 + 0.6 * annotated.max(axis=0)[..., None]
            size = net.specs[name].voxel_size
            height, width = (float(s) * n for s, n in zip(size[-2:], image.shape[-2:], strict=True))
            pictures = (background, overlay(true, background) * dimmed, overlay(predicted, background))
            for panel, picture in zip(row, pictures, strict=True):
                panel.imshow(picture, extent=(0, width, height, 0), interpolation="nearest")
                panel.set_xticks([])
                panel.set_yticks([])
            row[0].set_ylabel(f"{format_size(size)} nm")
            _scale_bar(row[0], width, height)
    for panel, title in zip(rows[0], ("raw", "truth", "prediction"), strict=True):
        panel.set_title(title)
    colours = class_colours(len(classes))
    handles = [Patch(color=colour, label=label) for colour, label in zip(colours, classes, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(classes), _LEGEND_COLUMNS), frameon=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    return output


def _size(roi: Roi, rows: int) -> tuple[float, float]:
    """Width and height (inches) of a figure with three panels a row, each in the proportions of a section."""
    tall, wide = roi.shape[-2:]
    scale = 4 / max(tall, wide)
    return max(3 * wide * scale + 0.8, 6), tall * scale * rows + 1


def _middle_section(roi: Roi, voxel_size: Coordinate) -> Roi:
    """The section (one voxel in z) through the middle of a three-dimensional ROI; in two dimensions all of it."""
    if roi.dims == 2:
        return roi
    voxels = roi.shape[0] // voxel_size[0]
    begin = (roi.begin[0] + (voxels // 2) * voxel_size[0], *roi.begin[1:])
    return Roi(begin, (voxel_size[0], *roi.shape[1:]))


def _flat(data: np.ndarray, dims: int) -> np.ndarray:
    """(C, 1, Y, X) or (C, Y, X) as (C, Y, X)."""
    return data[:, 0] if dims == 3 else data


def _scale_bar(panel: Axes, width: float, height: float) -> None:
    """A bar of a round length, about a fifth of the panel, whose width and height are in nm."""
    round_lengths = (step * 10.0**power for power in range(-2, 9) for step in (1, 2, 5))
    length = max(candidate for candidate in round_lengths if candidate <= width / 5)
    begin, level = 0.04 * width, 0.95 * height
    panel.plot([begin, begin + length], [level] * 2, color="white", linewidth=3, path_effects=_OUTLINE)
    label = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    panel.annotate(
        label,
        (begin, level),
        xytext=(0, 4),
        textcoords="offset points",
        color="white",
        va="bottom",
        path_effects=_OUTLINE,
    )
