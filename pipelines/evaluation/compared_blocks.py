"""The blocks of a prediction beside their targets, for all that compares the two."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import gunpowder as gp
import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.pipelines.blockwise import tiles
from scalenet_gp.pipelines.data import Dataset, predicted_sources, say_if_small
from scalenet_gp.pipelines.process import progress_bar

__all__ = ["around", "compared_blocks"]

Block = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Prediction, target and mask of an output, (channel, z, y, x) each."""


def compared_blocks(
    dataset: Dataset,
    prediction: Path,
    roi: Roi,
    outputs: Collection[str] | None = None,
    margins: Mapping[str, Coordinate] | None = None,
) -> Iterator[tuple[Roi, dict[str, Block]]]:
    """Yield the ROI of each block, and prediction, target and mask in it by output. A bar shows the progress.

    Blocks with a margin are those of :func:`around`.

    Args:
        dataset: the annotated volume.
        prediction: what :func:`scalenet_gp.pipelines.prediction.predict` wrote.
        roi: ROI to compare in.
        outputs: the outputs to read; all of the network unless given.
        margins: how much more is read of an output, in world units; nothing unless given.

    Raises:
        FileNotFoundError: there is no such prediction.
        ConfigError: it is of another volume, has other classes or voxels, or does not cover the ROI.
    """
    sample = dataset.boxes(dataset.run.training.output_shape)[dataset.finest].shape
    say_if_small(dataset.net, roi, sample, "the annotated part of the region to evaluate")
    boxes = list(tiles(roi, dataset.shape(dataset.run.prediction.block_shape, "prediction.block_shape")))
    names = [name for name in dataset.targets if outputs is None or name in outputs]
    arrays = dataset.arrays
    keys = [{name: of[name] for name in names} for of in (arrays.predictions, arrays.targets, arrays.masks)]
    predictions = predicted_sources(dataset, prediction, keys[0], roi)
    chain = (*predictions, *dataset.target_sources(roi)) + gp.MergeProvider()
    for node in dataset.target_nodes():
        chain += node
    with build_chain(chain) as pipeline, progress_bar("evaluating", len(boxes)) as advance:
        for tile in boxes:
            request = gp.BatchRequest()
            for name, key in ((name, key) for of in keys for name, key in of.items()):
                request[key] = gp.ArraySpec(roi=around(tile, (margins or {}).get(name), roi))
            batch = pipeline.request_batch(request)
            predicted, targets, masks = ({name: batch[key].data for name, key in of.items()} for of in keys)
            yield tile, {name: (predicted[name], targets[name], masks[name]) for name in names}
            advance("")


def around(tile: Roi, margin: Coordinate | None, roi: Roi) -> Roi:
    """Return a tile with a margin, as far as it lies in ``roi``."""
    return tile if margin is None else tile.grow(margin, margin).intersect(roi)
