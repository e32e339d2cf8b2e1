"""Sections of a report that need predictions: calibration, and pictures of the best and the worst places."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from operator import add
from pathlib import Path
from statistics import fmean

from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.plots import comparison_figure
from scalenet_gp.pipelines.reports.document import Document, Numbers
from scalenet_gp.pipelines.reports.figures import draw_reliability
from scalenet_gp.pipelines.reports.found_runs import FoundRuns
from scalenet_gp.pipelines.reports.places import BINS, Examination, Reliability
from scalenet_gp.pipelines.reports.scores import shown

__all__ = ["write_calibration", "write_places"]

_FAILURES = 10
"""Places with the lowest scores that are listed."""

_SIDES = 8
"""Models in one picture, at most; more would be too small to see."""

Examined = Mapping[Path, Examination]


def write_calibration(document: Document, found: FoundRuns, examined: Examined) -> None:
    """Write how often a class is there where it is predicted with a probability, and the expected calibration error."""
    document.section("Calibration")
    document.paragraph(
        "The expected calibration error is the mean over annotated voxels of the difference between the predicted "
        f"probability and the share of the class, in {BINS} intervals of equal width. 0 is the best."
    )
    labels = list(dict.fromkeys(label for one in examined.values() for label in one.reliability))
    rows, numbers, of_models = [], [], dict[str, Reliability]()
    for model in found.models:
        there = [examined[run.folder.path] for run in found.of(model) if run.folder.path in examined]
        if not there:
            continue
        errors = {
            label: [one.reliability[label].expected_error for one in there if label in one.reliability]
            for label in labels
        }
        whole = [reduce(add, one.reliability.values()) for one in there]
        rows.append([model, shown([one.expected_error for one in whole]), *map(shown, errors.values())])
        of_models[model] = reduce(add, whole)
    for run in found.runs:
        for label, found_of in examined[run.folder.path].reliability.items() if run.folder.path in examined else ():
            numbers += [
                (run.model, run.data, run.seed, label, number, int(count), float(probability), int(present))
                for number, (count, probability, present) in enumerate(
                    zip(found_of.count, found_of.probability, found_of.present, strict=True)
                )
            ]
    if not rows:
        document.paragraph("No output has classes, whose probabilities could be compared.")
        return
    document.table(["model", "all classes", *labels], rows)
    head = ("model", "data", "seed", "class", "interval", "voxels", "sum_of_probabilities", "voxels_of_the_class")
    document.numbers("calibration", Numbers(head, numbers))
    document.figure(
        "calibration", draw_reliability(of_models), "How often a class is there, over its predicted probability."
    )


def write_places(document: Document, found: FoundRuns, examined: Examined) -> None:
    """Write pictures of the best, median and worst place of each data set, and where each model fails most."""
    document.section("Places")
    numbers = [
        (run.model, run.data, run.seed, place.source, str(place.region), None if math.isnan(place.dice) else place.dice)
        for run in found.runs
        if run.folder.path in examined
        for place in examined[run.folder.path].places
    ]
    if not numbers:
        document.paragraph("No output has classes, whose places could be compared.")
        return
    document.paragraph(
        "A place is a block of the prediction, from the corner of the raw volume (z, y, x; nm). Its score is the "
        "mean Dice over classes, over all models and seeds in the choice of what is drawn. The first seed of each "
        "model is drawn."
    )
    for data in found.data:
        _draw_places(document, found, examined, data)
    _list_failures(document, found, examined)
    document.numbers("places", Numbers(("model", "data", "seed", "source", "region", "dice"), numbers))


def _draw_places(document: Document, found: FoundRuns, examined: Examined, data: str) -> None:
    scores: dict[tuple[str, str], list[float]] = {}
    regions: dict[tuple[str, str], tuple[str, Region]] = {}
    runs = [run for run in found.runs if run.data == data and run.folder.path in examined]
    for run in runs:
        for place in examined[run.folder.path].places:
            if not math.isnan(place.dice):
                scores.setdefault(place.key, []).append(place.dice)
                regions[place.key] = place.source, place.region
    ranked = sorted(scores, key=lambda key: (-fmean(scores[key]), key))
    if not ranked:
        return
    firsts = [next(run for run in runs if run.model == model) for model in dict.fromkeys(run.model for run in runs)]
    chosen = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    groups = list(firsts[0].config.evaluation.groups.values())
    classes = tuple(firsts[0].scores["outputs"][firsts[0].output]["classes"])
    exclusive = groups[0] if groups else ()
    # the classes of a group say more than the one that holds them all, which would lie over them
    drawn = tuple(exclusive) if exclusive else classes
    for name, key in chosen.items():
        source, region = regions[key]
        for part in range(0, len(firsts), _SIDES):
            sides: dict[str, tuple[Config, Path]] = {}
            for run in firsts[part : part + _SIDES]:
                several = run.folder.prediction / source.replace("/", "_")
                path = several if (several / run.output).exists() else run.folder.prediction
                sides[run.model] = run.config, path
            number = f"_{part // _SIDES + 1}" if len(firsts) > _SIDES else ""
            stem = f"{name}_{found.data.index(data) + 1}{number}"
            figure = comparison_figure(sides, firsts[0].config.data.folder or "", drawn, exclusive, region, source)
            caption = f"{data}, the {name} place, {source} {region}: mean Dice {fmean(scores[key]):.3f}."
            document.figure(stem, figure, caption)


def _list_failures(document: Document, found: FoundRuns, examined: Examined) -> None:
    every = sorted(
        (place.dice, run.model, run.data, run.seed, place.source, str(place.region), run.folder.path)
        for run in found.runs
        if run.folder.path in examined
        for place in examined[run.folder.path].places
        if not math.isnan(place.dice)
    )
    document.paragraph(
        f"The {min(_FAILURES, len(every))} places with the lowest scores. The command shows the prediction in "
        "neuroglancer; --raw lays it over the raw data."
    )
    document.table(
        ["run", "source", "region (nm)", "mean Dice", "command"],
        [
            [
                f"{model}/{data}/{seed}",
                source,
                region,
                f"{dice:.3f}",
                f"scalenet-gp view {path.relative_to(found.path) / 'prediction.zarr'}",
            ]
            for dice, model, data, seed, source, region, path in every[:_FAILURES]
        ],
    )
