"""Sections of a report that need no prediction: scores, tests, efficiency, curves, fields of view, provenance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path

from scalenet_gp.pipelines.reports.document import Document, Numbers
from scalenet_gp.pipelines.reports.efficiency import Efficiency, FieldOfView, fields_of_view, measure_efficiency
from scalenet_gp.pipelines.reports.figures import draw_bars, draw_curves, draw_scatter
from scalenet_gp.pipelines.reports.found_runs import FoundRun, FoundRuns
from scalenet_gp.pipelines.reports.places import Examination
from scalenet_gp.pipelines.reports.scores import MACRO, all_scores, score_of, scores_csv, shown
from scalenet_gp.pipelines.reports.significance import Comparison, compare_with_reference
from scalenet_gp.pipelines.reports.training_log import TrainingLog
from scalenet_gp.training import load_checkpoint

__all__ = [
    "write_curves",
    "write_efficiency",
    "write_fields",
    "write_provenance",
    "write_scores",
    "write_significance",
]

Logs = Mapping[Path, TrainingLog]


def write_scores(document: Document, found: FoundRuns) -> None:
    """Write the main table: a row for each model and data set, of the finest output; then a table of classes."""
    document.section("Scores")
    document.paragraph(
        "Mean ± standard deviation (of the sample) over the seeds, at the finest output of each model. Scores are "
        "means over classes; the kind is right of that share of voxels or objects of a group, the mean over its "
        "classes."
    )
    for place, why in found.left_out.items():
        document.paragraph(f"Left out: {place}, because {why}.")
    extra = list(
        dict.fromkeys(
            (s.label, s.metric)
            for run in found.runs
            for s in all_scores(run)
            if s.metric.startswith("accuracy of") or not s.output
        )
    )
    bounded = any(s.output and s.metric == "boundary_f1" for run in found.runs for s in all_scores(run))
    metrics = ("dice", "iou", "precision", "recall", *(["boundary_f1"] if bounded else []))
    columns = [(MACRO, metric) for metric in metrics] + extra
    head = ["model", "data", "seeds", "voxel (nm)", *(m if c == MACRO else f"{c}: {m}" for c, m in columns)]
    rows = []
    for model in found.models:
        for data in found.data:
            runs = found.of(model, data)
            if runs:
                size = runs[0].net.specs[runs[0].output].voxel_size
                cells = (shown([score_of(run, metric, label) for run in runs]) for label, metric in columns)
                rows.append([model, data, str(len(runs)), " × ".join(f"{float(s):g}" for s in size), *cells])
    document.table(head, rows)
    if all(run.segmentation is None for run in found.runs):
        document.paragraph(
            "There are no scores of objects (VOI, average precision): no run has a "
            "segmentation_scores.json, which evaluate --segmentation writes."
        )
    document.numbers("scores", scores_csv(found.runs))
    values = {model: [score_of(run, "dice") for run in found.of(model)] for model in found.models}
    document.figure("scores", draw_bars(values, "mean Dice"), "Mean Dice of each model, and of each of its runs.")
    _write_classes(document, found)


def _write_classes(document: Document, found: FoundRuns) -> None:
    labels = list(dict.fromkeys(label for run in found.runs for label in run.scores["outputs"][run.output]["classes"]))
    document.section("Scores of each class")
    for metric, name in (("dice", "Dice"), ("iou", "intersection over union")):
        rows = [
            [model, data, *(shown([score_of(run, metric, label) for run in found.of(model, data)]) for label in labels)]
            for model in found.models
            for data in found.data
        ]
        document.paragraph(f"The {name} of each class.")
        document.table(["model", "data", *labels], rows)


def write_significance(
    document: Document, found: FoundRuns, reference: str, examined: Mapping[Path, Examination]
) -> None:
    """Write the tests of every model against the reference: over runs, and over places."""
    document.section("Significance")
    document.paragraph(
        f"Each model against {reference}: the two-sided Wilcoxon signed-rank test of paired differences of the mean "
        "Dice, with Holm's correction for the number of models."
    )
    if len(found.models) < 2:
        document.paragraph("There is one model only.")
        return
    runs: dict[str, dict[Hashable, float]] = {}
    places: dict[str, dict[Hashable, list[float]]] = {}
    for run in found.runs:
        runs.setdefault(run.model, {})[run.data, run.seed] = score_of(run, "dice")
        of_model = places.setdefault(run.model, {})
        for place in examined[run.folder.path].places if run.folder.path in examined else ():
            of_model.setdefault((run.data, *place.key), []).append(place.dice)
    means: dict[str, dict[Hashable, float]] = {
        model: {key: sum(values) / len(values) for key, values in of.items()} for model, of in places.items()
    }
    numbers = []
    for unit, values in (("runs", runs), ("places", means)):
        if not any(values.values()):
            continue
        compared = compare_with_reference(values, reference)
        document.paragraph(
            "Pairs are runs of the same data set and seed."
            if unit == "runs"
            else "Pairs are blocks of the predictions, each with its mean over seeds. Blocks of one volume are not "
            "independent of one another, so these values say less than they seem to."
        )
        document.table(
            ["model", "pairs", "median difference", "p", "p (Holm)", ""], [_compared(one) for one in compared]
        )
        numbers += [
            (unit, reference, c.model, c.pairs, *map(_or_none, (c.difference, c.p_value, c.corrected, c.smallest)))
            for c in compared
        ]
    head = ("unit", "reference", "model", "pairs", "median_difference", "p", "p_holm", "smallest_p_holm")
    document.numbers("significance", Numbers(head, numbers))


def _compared(one: Comparison) -> list[str]:
    note = f"too few pairs: no p below {one.smallest:.2g} is possible" if one.too_few else ""
    return [
        one.model,
        str(one.pairs),
        _number(one.difference, "+.4f"),
        *(_p(p) for p in (one.p_value, one.corrected)),
        note,
    ]


def _p(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2g}"


def write_efficiency(document: Document, found: FoundRuns, logs: Logs) -> None:
    """Write what each model takes: weights, work, memory and time."""
    document.section("Efficiency")
    document.paragraph(
        "Multiply-accumulates are those of the prediction of a block, per voxel of the finest output. Memory is that "
        "of a training step: as predicted for the network, and the growth of the process in the training. Seconds of "
        "training are those of preparing batches and learning from them, by the log; CPU seconds are the processor's "
        "for the whole training, validation and checkpoints included, and known of runs of an experiment alone, "
        "unless one of their processes was killed. Inference is CPU seconds per µm³ (µm² in 2D) that was predicted."
    )
    rows: list[tuple[str, str, Efficiency]] = []
    for model in found.models:
        for data in found.data:
            if runs := found.of(model, data):
                rows.append((model, data, measure_efficiency(runs, [logs[run.folder.path] for run in runs])))
    head = "parameters kMAC/voxel memory_predicted memory_measured iterations training training_CPU inference"
    document.table(
        ["model", "data", *(name.replace("_", ", ") for name in head.split())],
        [
            [
                *(model, data, f"{e.parameters:,}", f"{e.macs / 1e3:,.1f}"),
                *(_number(memory / 2**20, ",.0f", " MiB") for memory in (e.memory_predicted, e.memory_measured)),
                f"{e.iterations:,}",
                *(_number(seconds, ",.1f", " s") for seconds in (e.seconds, e.processor_seconds)),
                _number(e.inference, ".3g", " s"),
            ]
            for model, data, e in rows
        ],
    )
    fields = list(Efficiency.__dataclass_fields__)
    document.numbers(
        "efficiency",
        Numbers(
            ("model", "data", *fields),
            [(model, data, *(_or_none(getattr(e, name)) for name in fields)) for model, data, e in rows],
        ),
    )
    points = {
        model: [(e.macs / 1e3, score_of(run, "dice")) for m, data, e in rows if m == model for run in found.of(m, data)]
        for model in found.models
    }
    document.figure(
        "work", draw_scatter(points, "kMAC per voxel", "mean Dice"), "Accuracy over work, a point for each run."
    )


def write_curves(document: Document, found: FoundRuns, logs: Logs) -> None:
    """Write the curves of the training: validations if there were any, and the loss."""
    document.section("Accuracy over training time")
    numbers: list[tuple[str | int | float | None, ...]] = []
    for name, tag, label in (("validation", "", "mean Dice in the validation"), ("loss", "loss/total", "loss")):
        curves: dict[str, list[list[tuple[float, float]]]] = {}
        for run in found.runs:
            log = replace(logs[run.folder.path], each=_seconds_each(found, run))
            points = log.curve(tag) if tag else log.validated(run.output)
            numbers += [(run.model, run.data, run.seed, name, *point) for point in points]
            if points:
                curves.setdefault(run.model, []).append([(seconds, value) for _, seconds, value in points])
        if curves:
            of_budget = _seconds_each(found, found.runs[0]) is not None
            clock = "by what an iteration takes of the budget" if of_budget else "by the clock, without validation"
            caption = f"The {label} over the seconds of training, {clock}; a curve for each run."
            document.figure(f"{name}_over_time", draw_curves(curves, "seconds of training", label), caption)
        elif not tag:
            document.paragraph("The runs have no validation, so that accuracy is known at their end alone.")
    head = ("model", "data", "seed", "curve", "iteration", "seconds", "value")
    document.numbers("curves", Numbers(head, numbers))


def _seconds_each(found: FoundRuns, run: FoundRun) -> float | None:
    """Return the seconds that an iteration takes of a budget of seconds, of an experiment that has one."""
    if found.plan is None or found.plan.matrix.budget is None or found.plan.matrix.budget.seconds is None:
        return None
    return found.plan.lengths[f"{run.model}/{run.data}"].each


def write_fields(document: Document, found: FoundRuns) -> None:
    """Write the receptive fields, by the plan and by the gradient, and accuracy over them."""
    document.section("Field of view")
    document.paragraph(
        "The theoretical field is the part of an input that one voxel of the finest output can depend on. The "
        "effective one holds 95 % of its gradient along each axis, for random inputs and the learned weights of the "
        "first run."
    )
    fields: dict[str, list[FieldOfView]] = {model: fields_of_view(found.of(model)[0]) for model in found.models}
    document.table(
        ["model", "input", "theoretical (nm)", "effective (nm)"],
        [
            [model, one.name, _lengths(one.theoretical), "-" if one.effective is None else _lengths(one.effective)]
            for model, of in fields.items()
            for one in of
        ],
    )
    rows = [
        (model, one.name, axis, length, None if one.effective is None else one.effective[axis])
        for model, of in fields.items()
        for one in of
        for axis, length in enumerate(one.theoretical)
    ]
    document.numbers("fields_of_view", Numbers(("model", "input", "axis", "theoretical_nm", "effective_nm"), rows))
    points = {
        model: [(max(one.reach for one in of), score_of(run, "dice")) for run in found.of(model)]
        for model, of in fields.items()
    }
    caption = "Accuracy over the longest edge of the theoretical field of view, a point for each run."
    document.figure("fields_of_view", draw_scatter(points, "field of view (nm)", "mean Dice"), caption)


def write_provenance(document: Document, found: FoundRuns) -> None:
    """Write where the numbers of each run come from."""
    document.section("Provenance")
    document.paragraph(
        "Every number above is computed from the files of these runs. Versions are those that the checkpoint states; "
        "processor and commit are known of runs of an experiment."
    )
    rows = []
    numbers: list[tuple[str, int, str, str]] = []
    for run in found.runs:
        checkpoint = run.checkpoint
        machine = dict(run.facts.attempts[-1].machine) if run.facts.attempts else {}
        versions = {} if checkpoint is None else dict(load_checkpoint(checkpoint).versions)
        facts = {
            **versions,
            **machine,
            "folder": str(run.folder.path.relative_to(found.path)),
            "checkpoint": "removed" if checkpoint is None else str(checkpoint.relative_to(run.folder.path)),
        }
        rows.append(
            [
                *(facts["folder"], facts["checkpoint"], facts.get("scalenet_gp", "-"), facts.get("commit", "-")),
                *(facts.get("python", "-"), facts.get("torch", "-"), facts.get("processor", "-")),
            ]
        )
        numbers += [(f"{run.model}/{run.data}", run.seed, name, value) for name, value in sorted(facts.items())]
    head = ["run", "checkpoint", "scalenet_gp", "commit", "python", "torch", "processor"]
    document.table(head, rows)
    document.numbers("provenance", Numbers(("model/data", "seed", "name", "value"), numbers))
    if found.plan is not None:
        document.paragraph(
            "The matrix, the widths and the lengths that were found are in experiment.json; each run has its "
            "config.yaml."
        )


def _lengths(lengths: tuple[float, ...]) -> str:
    return " × ".join(f"{length:g}" for length in lengths)


def _number(value: float, form: str, unit: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{form}}{unit}"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
