"""The choice of the threshold up to which fragments are joined, by the variation of information."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.metrics import ContingencyTable, adapted_rand, variation_of_information
from scalenet_gp.pipelines.config import FRAGMENTS, Config, Region
from scalenet_gp.pipelines.data import Dataset, choose_source
from scalenet_gp.pipelines.evaluation.held_out import evaluation_roi
from scalenet_gp.pipelines.evaluation.segmentation_job import InstanceComparison, true_instances
from scalenet_gp.pipelines.plots import draw_merge_thresholds
from scalenet_gp.pipelines.process import progress_bar
from scalenet_gp.pipelines.runs import ChosenMergeThresholds, MergeScores, RunFolder
from scalenet_gp.pipelines.segmentation import LookupTables
from scalenet_gp.volumes import MultiscaleImage, StrPath, group_attributes

__all__ = ["choose_merge_threshold"]


def choose_merge_threshold(
    config: Config,
    volume: StrPath,
    objects: Path,
    run: Path,
    region: Region | None = None,
    *,
    overwrite: bool = False,
    source: str | None = None,
    classes: Sequence[str] = (),
) -> ChosenMergeThresholds:
    """Choose the threshold with the smallest variation of information, of those whose look-up tables are stored.

    Of several with the same, the middle one is chosen.

    The overlaps of true objects and fragments are counted in one pass. They are the overlaps of the objects of every
    threshold, too. The scores are written to ``merge_thresholds.json`` in the folder of the run, and drawn in
    ``merge_thresholds.png``. Choose the threshold in a region that neither the training nor the evaluation saw.

    Args:
        config: the run file, with the labels.
        volume: folder, or its URL, that paths of the config start at.
        objects: volume of objects of affinities that :func:`scalenet_gp.pipelines.segmentation.segment` made, as
            ``segmentation.zarr/neurons``.
        run: folder of the run.
        region: the region to compare in; that of the validation unless given.
        overwrite: replace a threshold that was chosen before.
        source: name of the source of the run file; the only one unless given.
        classes: the class to compare with, whose label volume has a number for each object. Unless given, the class of
            a source with the encoding ``instances``.

    Raises:
        FileExistsError: a threshold was chosen before.
        FileNotFoundError: there is no such volume, labels or objects of affinities.
        ConfigError: the run file has no region of validation and none is given; several classes; the
            segmentation has one threshold alone, or does not cover the region.
        DataError: nothing is annotated in the region.
    """
    folder = RunFolder(run)
    if folder.merge_thresholds.exists() and not overwrite:
        raise FileExistsError(f"{folder.merge_thresholds} exists; replace it with --force, or remove it")
    fragments = objects.with_name(f"{objects.name}{FRAGMENTS}")
    if not fragments.exists():
        known = [path.name.removesuffix(FRAGMENTS) for path in sorted(objects.glob(f"*{FRAGMENTS}"))]
        told = f"; give one of its volumes: {', '.join(known)}" if known else ""
        raise FileNotFoundError(
            f"{objects} has no fragments beside it, {fragments.name}, as objects of affinities have{told}"
        )
    tables = LookupTables.read(fragments)
    if len(tables.thresholds) == 1:
        raise ConfigError(
            f"{fragments} has the objects of one merge threshold, {tables.thresholds[0]:g}, so that there is none to "
            f"choose: give more in segmentation.objects.{objects.name}.thresholds, and segment again"
        )
    dataset = Dataset.open(volume, config, config.build_network(), choose_source(config.data, volume, source))
    validation = dataset.run.validation
    within = region or (None if validation is None else validation.region)
    if within is None:
        raise ConfigError(
            "there is no validation.region to choose a threshold in: name another one with --region. In the "
            "evaluation's own, its scores would be too good"
        )
    truths = true_instances(dataset, classes)
    if len(truths) > 1:
        raise ConfigError(f"objects are compared with one class, and {', '.join(truths)} are given: choose one")
    ((name, truth),) = truths.items()
    image, roi = MultiscaleImage.open(fragments), evaluation_roi(config, dataset, within)
    compared = InstanceComparison(dataset, name, truth, image, roi, None, None)
    table = ContingencyTable()
    with progress_bar("evaluating", compared.blocks) as advance:
        for block in compared.overlaps():
            table.merge(block)
            advance("")
    scores = [_scores(table.with_objects(tables.fragments, numbers)) for numbers in tables.objects]
    if any(math.isnan(one.voi_split) for one in scores):
        raise DataError(f"nothing of {name} is annotated in {within}, so that no threshold is better than another")
    totals = [one.voi_split + one.voi_merge for one in scores]
    equal = [index for index, total in enumerate(totals) if total == min(totals)]
    best = equal[len(equal) // 2]
    job = group_attributes(objects.parent)["job"]
    result = ChosenMergeThresholds(
        region=str(within),
        networks=tuple(job["networks"]),
        objects={objects.name: tables.thresholds[best]},
        methods={objects.name: ChosenMergeThresholds.method(job["objects"][objects.name]["options"])},
        scores={objects.name: dict(zip(map(str, tables.thresholds), scores, strict=True))},
    )
    run.mkdir(parents=True, exist_ok=True)
    draw_merge_thresholds(
        tables.thresholds,
        {
            "VOI split": [one.voi_split for one in scores],
            "VOI merge": [one.voi_merge for one in scores],
            "VOI": totals,
            "adapted Rand error": [one.adapted_rand_error for one in scores],
        },
        tables.thresholds[best],
        folder.merge_threshold_curves,
    )
    result.write(folder.merge_thresholds)
    return result


def _scores(table: ContingencyTable) -> MergeScores:
    information = variation_of_information(table)
    return MergeScores(
        voi_split=information.split, voi_merge=information.merge, adapted_rand_error=adapted_rand(table).error
    )
