"""The choice of the threshold of each class, by its Dice coefficient in an annotated region."""

from __future__ import annotations

import math
from pathlib import Path

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.metrics import SWEPT_THRESHOLDS, ThresholdSweep
from scalenet_gp.pipelines.config import Config, InstanceTargetsOptions, Region, TargetOptions
from scalenet_gp.pipelines.data import Dataset, choose_source
from scalenet_gp.pipelines.evaluation.compared_blocks import compared_blocks
from scalenet_gp.pipelines.evaluation.held_out import evaluation_roi
from scalenet_gp.pipelines.plots import draw_thresholds
from scalenet_gp.pipelines.runs import ChosenThreshold, ChosenThresholds, RunFolder
from scalenet_gp.volumes import StrPath, group_attributes

__all__ = ["choose_thresholds"]


def choose_thresholds(
    config: Config,
    volume: StrPath,
    prediction: Path,
    run: Path,
    region: Region | None = None,
    *,
    overwrite: bool = False,
    source: str | None = None,
) -> ChosenThresholds:
    """Choose the threshold of each class with the largest Dice coefficient, in one pass over a prediction.

    They are written to ``thresholds.json`` in the folder of the run, and the Dice coefficients at all thresholds are
    drawn in ``thresholds.png``. Choose them in a region that neither the training nor the evaluation saw.

    Args:
        config: the run file, with the labels.
        volume: folder, or its URL, that paths of the config start at.
        prediction: zarr group that :func:`scalenet_gp.pipelines.prediction.predict` wrote.
        run: folder of the run.
        region: the region to compare in; that of the validation unless given.
        overwrite: replace thresholds that were chosen before.
        source: name of the source of the run file; the only one unless given.

    Raises:
        FileExistsError: thresholds were chosen before.
        FileNotFoundError: there is no such volume, labels or prediction.
        ConfigError: the run file has no region of validation and none is given; no output has thresholds; the
            prediction does not cover the region, or is another one.
        DataError: no class occurs in the region.
    """
    folder = RunFolder(run)
    if folder.thresholds.exists() and not overwrite:
        raise FileExistsError(f"{folder.thresholds} exists; replace it with --force, or remove it")
    dataset = Dataset.open(volume, config, config.build_network(), choose_source(config.data, volume, source))
    validation = dataset.run.validation
    within = region or (None if validation is None else validation.region)
    if within is None:
        raise ConfigError(
            "there is no validation.region to choose thresholds in: name another one with --region. In the "
            "evaluation's own, its scores would be too good"
        )
    sweeps = {
        output: {name: ThresholdSweep() for name in dataset.scored[output]}
        for output, targets in dataset.targets.items()
        if _has_threshold(targets)
    }
    if not sweeps:
        raise ConfigError("no output has a threshold: their classes exclude each other, or they have none")
    for _, blocks in compared_blocks(dataset, prediction, evaluation_roi(config, dataset, within), sweeps):
        for output, block in blocks.items():
            scored = dataset.targets[output].as_classes(*block)
            for sweep, *arrays in zip(sweeps[output].values(), *scored, strict=True):
                sweep.update(*arrays)
    chosen = {
        output: {name: _chosen(sweep) for name, sweep in of.items() if not math.isnan(sweep.best)}
        for output, of in sweeps.items()
    }
    if not any(chosen.values()):
        raise DataError(
            f"no class occurs in {within}, so that no threshold is better than another: choose another region"
        )
    networks = group_attributes(prediction).get("job", {}).get("networks", ())
    result = ChosenThresholds(
        region=str(within), networks=tuple(network["sha256"] for network in networks), outputs=chosen
    )
    run.mkdir(parents=True, exist_ok=True)
    curves = {f"{output} {name}": sweep.dice for output, of in sweeps.items() for name, sweep in of.items()}
    draw_thresholds(SWEPT_THRESHOLDS, curves, folder.threshold_curves)
    result.write(folder.thresholds)
    return result


def _has_threshold(targets: TargetOptions) -> bool:
    if isinstance(targets, InstanceTargetsOptions):
        return False
    return targets.kind != "classes" or not targets.exclusive


def _chosen(sweep: ThresholdSweep) -> ChosenThreshold:
    return ChosenThreshold(threshold=sweep.best, dice=sweep.counts(sweep.best).scores["dice"])
