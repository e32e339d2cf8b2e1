"""A picture of a prediction: raw, truth and prediction at each scale."""

from __future__ import annotations

from pathlib import Path

import gunpowder as gp
from funlib.geometry import Roi

from scalenet_gp.geometry import format_size
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

__all__ = ["draw_prediction"]

_LEGEND_COLUMNS = 6


def draw_prediction(
    config: Config,
    volume: StrPath,
    prediction: Path,
    output: Path,
    region: Region | None = None,
    source: str | None = None,
) -> Path:
    """Draw the middle section of a predicted region: a row for each scale, with raw data, truth and prediction.

    The truth is dark where nothing is annotated. Black and white are the ``intensities`` of the config.

    Args:
        config: the run.
        volume: folder, or its URL, that paths of the config start at.
        prediction: zarr group that :func:`scalenet_gp.pipelines.prediction.predict` wrote.
        output: PNG file to make.
        region: region to draw; the evaluation region unless given.
        source: name of the source of the run file; the only one unless given.

    Returns:
        ``output``.

    Raises:
        FileExistsError: there is something at ``output``.
        FileNotFoundError: there is no such volume, labels or prediction.
        ScaleNetError: nothing is annotated in the region, or the prediction does not cover it or has other classes.
    """
    from matplotlib.figure import Figure

    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    net = config.build_network()
    dataset = Dataset.open(volume, config, net, choose_source(config.data, volume, source))
    roi = dataset.annotated(region or dataset.evaluation_region)
    names = tuple(dataset.targets)
    classes = tuple(dict.fromkeys(label for labels in dataset.scored.values() for label in labels))
    # the raw data at the voxel size of each output, whose keys the source takes for the tensors to read
    arrays = dataset.arrays
    raw, predictions = ({name: keys[name] for name in names} for keys in (arrays.raw_of_outputs, arrays.predictions))
    targets, masks = arrays.targets, arrays.masks
    sources = predicted_sources(dataset, prediction, predictions, roi)
    seen = dataset.inputs.see(raw)
    chain = (seen.scaled(seen.fractions(of_type=True)), *sources, *dataset.target_sources(roi)) + gp.MergeProvider()
    for node in dataset.target_nodes():
        chain += node
    figure = Figure(figsize=_size(roi, len(names)), layout="constrained")
    rows = figure.subplots(len(names), 3, squeeze=False)
    with build_chain(chain) as pipeline:
        for row, name in zip(rows, names, strict=True):
            middle = middle_section(roi, net.voxel_size[name])
            request = gp.BatchRequest()
            for keys in (raw, predictions, targets, masks):
                request[keys[name]] = gp.ArraySpec(roi=middle)
            batch = pipeline.request_batch(request)
            image, predicted, true, annotated = (
                section(batch[keys[name]].data, middle, middle) for keys in (raw, predictions, targets, masks)
            )
            predicted, true = (spread_channels(values, dataset.channels[name], classes) for values in (predicted, true))
            background = as_greys(image[0], (-1.0, 1.0))
            size = net.specs[name].voxel_size
            height, width = (float(s) * n for s, n in zip(size[-2:], image.shape[-2:], strict=True))
            pictures = (background, true_classes(true, annotated, background), overlay(predicted, background))
            for panel, picture in zip(row, pictures, strict=True):
                show(panel, picture, (0, width, height, 0))
            row[0].set_ylabel(f"{format_size(size)} nm")
            scale_bar(row[0])
    for panel, title in zip(rows[0], ("raw", "truth", "prediction"), strict=True):
        panel.set_title(title)
    columns = min(len(classes), _LEGEND_COLUMNS)
    figure.legend(handles=class_patches(classes), loc="outside lower center", ncols=columns, frameon=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    return output


def _size(roi: Roi, rows: int) -> tuple[float, float]:
    """Return width and height (inches) of a figure with three panels a row, in the proportions of a section."""
    tall, wide = roi.shape[-2:]
    scale = 4 / max(tall, wide)
    return max(3 * wide * scale + 0.8, 6), tall * scale * rows + 1
