"""A picture of a prediction: raw, truth and prediction at each scale."""

from __future__ import annotations

from pathlib import Path

import gunpowder as gp
import numpy as np
from funlib.geometry import Coordinate, Roi
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from scalenet_gp.nodes import Multiscale, MultiscaleSource
from scalenet_gp.nodes.panels import class_colours, grey, overlay
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.dataset import Dataset, array_keys
from scalenet_gp.pipelines.running import running
from scalenet_gp.world import format_size

__all__ = ["draw_prediction"]


def draw_prediction(
    config: Config, volume: Path, prediction: Path, output: Path, region: Region | None = None
) -> Path:
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
    """
    net = config.build_network()
    dataset = Dataset.open(volume, config.data, net)
    roi = dataset.roi(region or config.evaluation).intersect(dataset.labelled())
    names = net.output_keys
    # the raw data at the voxel size of each output, whose keys the source takes for the tensors to read
    raw, predictions, targets, masks = (array_keys(kind, names) for kind in ("RAW", "PREDICTION", "TARGET", "MASK"))
    sources = [
        MultiscaleSource(Multiscale.open(prediction / name), {key: net.voxel_size[name]}, dataset.world)
        for name, key in predictions.items()
    ]
    chain = (dataset.source(raw), *sources, dataset.targets(targets, masks, roi)) + gp.MergeProvider()
    figure = Figure(figsize=(12, 4 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 3, squeeze=False)
    with running(chain) as pipeline:
        for row, name in zip(axes, names, strict=True):
            section = _middle_section(roi, net.voxel_size[name])
            request = gp.BatchRequest()
            for keys in (raw, predictions, targets, masks):
                request[keys[name]] = gp.ArraySpec(roi=section)
            batch = pipeline.request_batch(request)
            image, predicted, true, annotated = (
                _flat(batch[keys[name]].data, net.dims) for keys in (raw, predictions, targets, masks)
            )
            background = grey(image[0] / 255 if batch[raw[name]].data.dtype == np.uint8 else image[0])
            dimmed = 0.4 + 0.6 * annotated.max(axis=0)[..., None]
            size = net.specs[name].voxel_size
            extent = (0.0, float(size[-1]) * image.shape[-1], float(size[-2]) * image.shape[-2], 0.0)
            for panel, picture in zip(
                row, (background, overlay(true, background) * dimmed, overlay(predicted, background)), strict=True
            ):
                panel.imshow(picture, extent=extent, interpolation="nearest")
                panel.set_xticks([])
                panel.set_yticks([])
            row[0].set_ylabel(f"{format_size(size)} nm")
            _scale_bar(row[0], extent[1])
    for panel, title in zip(axes[0], ("raw", "truth", "prediction"), strict=True):
        panel.set_title(title)
    classes = config.data.classes
    handles = [Patch(color=colour, label=label) for colour, label in zip(class_colours(len(classes)), classes)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(classes), frameon=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    return output


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


def _scale_bar(panel, width: float) -> None:  # type: ignore[no-untyped-def]
    """A bar of a round length, about a fifth of the panel."""
    power = 10 ** np.floor(np.log10(width / 5))
    length = float(power * max(step for step in (1, 2, 5) if step * power <= width / 5))
    bottom = panel.get_ylim()[0]
    panel.plot([0.04 * width, 0.04 * width + length], [0.95 * bottom] * 2, color="white", linewidth=3)
    label = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    panel.text(0.04 * width + length / 2, 0.935 * bottom, label, color="white", ha="center", va="bottom")
