"""The evaluation job: scores of a prediction against the annotation, for each class, group of classes and scale."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.metrics import (
    BoundaryCounts,
    GroupCounts,
    GroupObjects,
    GroupScores,
    Scores,
    mean_scores,
    scores_from_json,
    scores_to_json,
)
from scalenet_gp.options import suggest
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.data import Dataset, choose_source
from scalenet_gp.pipelines.evaluation.boundary_sums import BoundaryScores, BoundarySums
from scalenet_gp.pipelines.evaluation.compared_blocks import around, compared_blocks
from scalenet_gp.pipelines.evaluation.held_out import evaluation_roi
from scalenet_gp.pipelines.evaluation.score_sums import ScoreSums
from scalenet_gp.serialization import atomic_write
from scalenet_gp.volumes import StrPath

__all__ = ["EvaluationResult", "evaluate"]

_VERSION = 1


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The scores of a prediction.

    Attributes:
        classes: the confusion counts of each class, for each output.
        voxels: the voxels of each group of exclusive classes, for each output that has all of its classes.
        objects: the same of objects.
        boundaries: the boundary voxels of each class, for each output.
        tolerances: nm; the distance within which boundaries of each output count as found.

    Example:
        >>> EvaluationResult({"output": {}}).to_json()["outputs"]["output"]["groups"]
        {}
    """

    classes: Scores
    voxels: GroupScores = field(default_factory=dict)
    objects: GroupScores = field(default_factory=dict)
    boundaries: BoundaryScores = field(default_factory=dict)
    tolerances: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return counts and scores as JSON can hold them, with None for scores that are not defined."""
        outputs = {}
        for name, classes in scores_to_json(self.classes).items():
            mean = {score: _or_none(value) for score, value in mean_scores(self.classes[name]).items()}
            groups = {
                group: {"voxels": voxels.to_json(), "objects": self.objects[name][group].to_json()}
                for group, voxels in self.voxels.get(name, {}).items()
            }
            outputs[name] = {"classes": classes, "mean": mean, "groups": groups}
            if name in self.boundaries:
                found = self.boundaries[name]
                outputs[name]["boundaries"] = {
                    "tolerance": self.tolerances[name],
                    "classes": {label: _boundaries_to_json(counts) for label, counts in found.items()},
                    "mean": {"f1": _or_none(self.boundary_f1(name))},
                }
        return {"version": _VERSION, "outputs": outputs}

    def write(self, output: Path) -> None:
        """Write counts and scores as JSON."""
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(output) as beside:
            beside.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> EvaluationResult:
        """Return the scores in a file that :meth:`write` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            DataError: the file is of another version.
        """
        plain = json.loads(path.read_bytes())
        if (version := plain.get("version")) != _VERSION:
            raise DataError(f"{path} has scores of version {version}; this version of scalenet_gp reads {_VERSION}")
        outputs = plain["outputs"]
        voxels, objects = (
            {
                name: {group: GroupCounts.from_json(counts[of]) for group, counts in output["groups"].items()}
                for name, output in outputs.items()
                if output["groups"]
            }
            for of in ("voxels", "objects")
        )
        boundaries = {name: output["boundaries"] for name, output in outputs.items() if "boundaries" in output}
        return cls(
            scores_from_json({name: output["classes"] for name, output in outputs.items()}),
            voxels,
            objects,
            {
                name: {
                    label: BoundaryCounts(**{count.name: values[count.name] for count in fields(BoundaryCounts)})
                    for label, values in of["classes"].items()
                }
                for name, of in boundaries.items()
            },
            {name: of["tolerance"] for name, of in boundaries.items()},
        )

    def __add__(self, other: EvaluationResult) -> EvaluationResult:
        """Return the scores of both, by the sums of their counts."""
        return EvaluationResult(
            _added(self.classes, other.classes),
            _added(self.voxels, other.voxels),
            _added(self.objects, other.objects),
            _added(self.boundaries, other.boundaries),
            self.tolerances,
        )

    def boundary_f1(self, output: str) -> float:
        """Return the mean of boundary F1 over the classes for which it is defined; NaN if there are none."""
        defined = [f1 for counts in self.boundaries[output].values() if not math.isnan(f1 := counts.f1)]
        return sum(defined) / len(defined) if defined else math.nan

    def metrics(self) -> dict[str, float]:
        """Return the scores that runs are compared by: the mean Dice of each output, and the accuracies of groups.

        Their names are ``dice/<output>``, ``voxel_accuracy/<output>/<group>`` and ``object_accuracy/<output>/<group>``.
        """
        of_outputs = {f"dice/{output}": mean_scores(classes)["dice"] for output, classes in self.classes.items()}
        of_groups = {
            f"{score}/{output}/{group}": counts.accuracy
            for score, outputs in (("voxel_accuracy", self.voxels), ("object_accuracy", self.objects))
            for output, groups in outputs.items()
            for group, counts in groups.items()
        }
        return of_outputs | of_groups


def evaluate(
    config: Config,
    volume: StrPath,
    prediction: Path,
    region: Region | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    source: str | None = None,
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
    outputs: Sequence[str] = (),
) -> EvaluationResult:
    """Compare a prediction with the annotation. Voxels that are not annotated do not count.

    Args:
        config: the run file, with the labels and the evaluation region.
        volume: folder, or its URL, that paths of the config start at.
        prediction: zarr group that :func:`scalenet_gp.pipelines.prediction.predict` wrote.
        region: the region to compare, instead of that of the config.
        output: JSON file for counts and scores.
        overwrite: replace ``output`` if it exists.
        source: name of the source of the run file; the only one unless given.
        thresholds: the thresholds of classes, by output, instead of ``evaluation.threshold``.
        outputs: the outputs to compare; all of the network unless given.

    Returns:
        The scores of each of these outputs.

    Raises:
        FileExistsError: ``output`` exists.
        FileNotFoundError: there is no such volume, labels or prediction.
        DataError: every voxel of the region is unknown.
        ScaleNetError: nothing is annotated in the region, the network learns from a part of it, the prediction does
            not cover it, is of another volume, or has other classes.
    """
    if output is not None and output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    net, settings = config.build_network(), config.evaluation
    dataset = Dataset.open(volume, config, net, choose_source(config.data, volume, source))
    for name in outputs:
        if name not in net.output_keys:
            raise ConfigError(f"there is no output {name!r} to compare; {suggest(name, net.output_keys)}")
    compared = [name for name in dataset.targets if not outputs or name in outputs]
    roi = evaluation_roi(config, dataset, region)
    sums = ScoreSums(dataset, settings.groups, settings.threshold, thresholds)
    boundaries = BoundarySums(dataset, settings.boundary_tolerance, sums.thresholds, compared)
    objects = {
        name: {group: GroupObjects(settings.groups[group]) for group in groups}
        for name, groups in sums.channels.items()
        if name in compared
    }
    annotated = 0
    for tile, blocks in compared_blocks(dataset, prediction, roi, compared, boundaries.margins):
        for name, wide in blocks.items():
            box = around(tile, boundaries.margins[name], roi)
            boundaries.add(name, tile, box, *wide)
            inner = ((tile - box.begin) // net.voxel_size[name]).to_slices()
            block = tuple(array[(slice(None), *inner)] for array in wide)
            sums.add(name, *block)
            annotated += int(np.count_nonzero(block[2]))
            for group, found in objects.get(name, {}).items():
                channels = sums.channels[name][group]
                found.add(tile.begin / net.voxel_size[name], *(array[channels] for array in block))
    if not annotated:
        raise DataError(
            f"every voxel of {dataset.region(roi)} is unknown to the labels, so that there is nothing to compare a "
            "prediction with; give another region or other labels"
        )
    counted = {}
    for name, groups in objects.items():
        voxel = math.prod(dataset.world.size_in_nm(net.voxel_size[name]))
        smallest = settings.smallest_object**net.dims / voxel
        counted[name] = {group: found.counts(smallest) for group, found in groups.items()}
    scores = {name: sums.scores[name] for name in compared}
    voxels = {name: sums.voxels[name] for name in counted}
    result = EvaluationResult(scores, voxels, counted, boundaries.counts, boundaries.tolerances)
    if output is not None:
        result.write(output)
    return result


def _added(one: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        output: {name: count + other[output][name] for name, count in counts.items()} for output, counts in one.items()
    }


def _boundaries_to_json(counts: BoundaryCounts) -> dict[str, float | None]:
    scores = {score: _or_none(getattr(counts, score)) for score in ("precision", "recall", "f1")}
    return asdict(counts) | scores


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
