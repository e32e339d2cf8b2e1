"""The evaluation job: scores of a prediction against the annotation, for each class and scale."""

from __future__ import annotations

import json
from pathlib import Path

import gunpowder as gp

from scalenet_gp.metrics import Scores, empty_scores, scores_to_json, update_scores
from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.pipelines.blockwise import tiles
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.data import Dataset
from scalenet_gp.pipelines.evaluation.held_out import evaluation_roi
from scalenet_gp.pipelines.process import progress_bar
from scalenet_gp.volumes import StrPath

__all__ = ["evaluate"]


def evaluate(
    config: Config, volume: StrPath, prediction: Path, region: Region | None = None, output: Path | None = None
) -> Scores:
    """Compare a prediction with the annotation. Voxels that are not annotated do not count.

    Args:
        config: the run file, with the labels and the evaluation region.
        volume: folder, or its URL, of the labels.
        prediction: zarr group that :func:`scalenet_gp.pipelines.prediction.predict` wrote.
        region: the region to compare, instead of that of the config.
        output: JSON file for counts and scores.

    Returns:
        The confusion counts of each class, for each output of the network.

    Raises:
        FileExistsError: ``output`` exists.
        FileNotFoundError: there is no such volume, labels or prediction.
        ScaleNetError: nothing is annotated in the region, the network learns from a part of it, the prediction does
            not cover it, or it has other classes.
    """
    if output is not None and output.exists():
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    net = config.build_network()
    dataset = Dataset.open(volume, config, net)
    roi = evaluation_roi(config, dataset, region)
    boxes = list(tiles(roi, dataset.shape(config.prediction.block_shape, "prediction.block_shape")))
    arrays = dataset.arrays
    predictions, targets, masks = arrays.predictions, arrays.targets, arrays.masks
    sources = dataset.predicted(prediction, predictions, roi)
    chain = (*sources, *dataset.target_sources(roi)) + gp.MergeProvider()
    for node in dataset.target_nodes():
        chain += node

    scores = empty_scores(dataset.scored)
    with build_chain(chain) as pipeline, progress_bar("evaluating", len(boxes)) as advance:
        for tile in boxes:
            request = gp.BatchRequest()
            for key in (*predictions.values(), *targets.values(), *masks.values()):
                request[key] = gp.ArraySpec(roi=tile)
            batch = pipeline.request_batch(request)
            for name in net.output_keys:
                predicted, target, mask = (batch[keys[name]].data for keys in (predictions, targets, masks))
                scored = dataset.targets[name].as_classes(predicted, target, mask)
                update_scores(scores, name, *scored, config.evaluation.threshold)
            advance("")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(scores_to_json(scores), indent=2) + "\n", encoding="utf-8")
    return scores
