"""The evaluation job: how a prediction agrees with the annotation, class by class and scale by scale."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gunpowder as gp
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from scalenet_gp.nodes.volumes.location import StrPath
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.dataset import Dataset, array_keys
from scalenet_gp.pipelines.predict import blocks
from scalenet_gp.pipelines.progress import progress_bar
from scalenet_gp.pipelines.running import running

__all__ = ["Agreement", "evaluate", "score_table"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of annotated voxels, and the scores that follow from them; undefined scores are NaN.

    Attributes:
        true_positive: of the class, and predicted.
        false_positive: predicted, but not of the class.
        false_negative: of the class, but not predicted.
    """

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    @classmethod
    def count(cls, predicted: np.ndarray, true: np.ndarray, annotated: np.ndarray) -> Agreement:
        """Compare two boolean arrays where a third one is true."""
        return cls(
            int((predicted & true & annotated).sum()),
            int((predicted & ~true & annotated).sum()),
            int((~predicted & true & annotated).sum()),
        )

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )

    @property
    def scores(self) -> dict[str, float]:
        """Dice coefficient, intersection over union, precision and recall."""
        hit, extra, missed = self.true_positive, self.false_positive, self.false_negative
        return {
            "dice": _ratio(2 * hit, 2 * hit + extra + missed),
            "iou": _ratio(hit, hit + extra + missed),
            "precision": _ratio(hit, hit + extra),
            "recall": _ratio(hit, hit + missed),
        }


Scores = dict[str, dict[str, Agreement]]
"""The agreement of each class, for each output of the network."""


def evaluate(
    config: Config, volume: StrPath, prediction: Path, region: Region | None = None, output: Path | None = None
) -> Scores:
    """Compare a prediction with the annotation. What is not annotated does not count.

    Args:
        config: the run; says where the labels are, and the region unless ``region`` is given: that of the evaluation.
        volume: folder, or its URL, that holds the labels.
        prediction: what :func:`scalenet_gp.pipelines.predict.predict` wrote.
        region: what to compare.
        output: JSON file for counts and scores.

    Raises:
        FileExistsError: there is something at ``output``.
        FileNotFoundError: there is no such volume, labels or prediction.
        ValueError: the prediction does not cover the region, or has other classes.
    """
    if output is not None and output.exists():
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    net = config.build_network()
    dataset = Dataset.open(volume, config.data, net)
    roi = dataset.annotated(region or config.evaluation)
    tiles = list(blocks(roi, dataset.shape(config.block_shape, "block_shape")))
    predictions, targets, masks = (array_keys(kind, net.output_keys) for kind in ("PREDICTION", "TARGET", "MASK"))
    sources = dataset.predicted(prediction, predictions, roi)
    chain = (*sources, dataset.targets(targets, masks, roi)) + gp.MergeProvider()

    classes = config.data.classes
    scores: Scores = {name: dict.fromkeys(classes, Agreement()) for name in net.output_keys}
    with running(chain) as pipeline, progress_bar("evaluating", len(tiles)) as advance:
        for tile in tiles:
            request = gp.BatchRequest()
            for key in (*predictions.values(), *targets.values(), *masks.values()):
                request[key] = gp.ArraySpec(roi=tile)
            batch = pipeline.request_batch(request)
            for name in net.output_keys:
                arrays = (batch[keys[name]].data for keys in (predictions, targets, masks))
                for label, predicted, true, annotated in zip(classes, *arrays, strict=True):
                    scores[name][label] += Agreement.count(predicted >= config.threshold, true > 0, annotated > 0)
            advance("")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(_plain(scores), indent=2) + "\n", encoding="utf-8")
    return scores


def score_table(scores: Mapping[str, Mapping[str, Agreement]]) -> Table:
    """Scores as a table for the terminal."""
    table = Table(title="Agreement with the annotation", title_justify="left", box=SIMPLE_HEAD)
    for column in ("output", "class", "Dice", "IoU", "precision", "recall"):
        table.add_column(column, justify="left" if column in ("output", "class") else "right")
    for name, classes in scores.items():
        for index, (label, agreement) in enumerate(classes.items()):
            values = ("-" if math.isnan(score) else f"{score:.3f}" for score in agreement.scores.values())
            table.add_row(name if index == 0 else "", label, *values, end_section=index == len(classes) - 1)
    return table


def _plain(scores: Scores) -> dict[str, dict[str, dict[str, float | None]]]:
    return {
        name: {
            label: {
                "true_positive": a.true_positive,
                "false_positive": a.false_positive,
                "false_negative": a.false_negative,
                **{key: None if math.isnan(score) else score for key, score in a.scores.items()},
            }
            for label, a in classes.items()
        }
        for name, classes in scores.items()
    }


def _ratio(above: int, below: int) -> float:
    return above / below if below else math.nan
