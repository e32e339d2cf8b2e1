"""Tables of an experiment for the terminal: while it runs, at its end, and what it will do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from scalenet_gp.pipelines.experiments.outcomes import ExperimentResult
from scalenet_gp.pipelines.experiments.plan import Cell, ExperimentPlan
from scalenet_gp.pipelines.experiments.processes import Progress
from scalenet_gp.pipelines.experiments.widths import count_parameters, macs_per_voxel

__all__ = ["differing_names", "experiment_table", "plan_table", "progress_table"]

_STYLES = {"done": "green", "failed": "bold red", "training": "bold", "evaluating": "bold", "stopped": "yellow"}


def differing_names(cells: Sequence[Cell], cell: Cell | None = None) -> list[str]:
    """Return the parts of the names of runs in which they differ; of one of them, if it is given, their values.

    The model is always told, the data set and the seed where there are several.

    Example:
        >>> cells = [Cell("unet", "demo", 0), Cell("unet", "demo", 1)]
        >>> differing_names(cells), differing_names(cells, cells[1])
        (['model', 'seed'], ['unet', '1'])
    """
    names = ["model", *(name for name in ("data", "seed") if len({getattr(one, name) for one in cells}) > 1)]
    return names if cell is None else [str(getattr(cell, name)) for name in names]


def progress_table(cells: Sequence[Cell], states: Mapping[Cell, Progress], lengths: Mapping[Cell, int]) -> Table:
    """Return what every run does now.

    Args:
        cells: the runs.
        states: the progress of each; those that are not there wait.
        lengths: the iterations of each.
    """
    table = Table(box=SIMPLE_HEAD)
    for name in (*differing_names(cells), "state"):
        table.add_column(name)
    table.add_column("iteration", justify="right")
    table.add_column("loss", justify="right")
    for cell in cells:
        one = states.get(cell, Progress(cell))
        iteration = lengths[cell] if one.state == "done" else one.iteration
        loss = "" if one.loss is None else f"{one.loss:.3f}"
        state = f"[{style}]{one.state}[/]" if (style := _STYLES.get(one.state)) else one.state
        table.add_row(*differing_names(cells, cell), state, f"{iteration:,} / {lengths[cell]:,}", loss)
    return table


def experiment_table(result: ExperimentResult) -> Table:
    """Return the outcome of every run."""
    table = Table(title="Runs", title_justify="left", box=SIMPLE_HEAD)
    for name in ("model", "data", "seed", "state"):
        table.add_column(name)
    for name in ("iterations", "training, CPU s", "mean Dice"):
        table.add_column(name, justify="right")
    for cell, run in result.runs.items():
        state, style = run.progress.state, _STYLES.get(run.progress.state, "")
        table.add_row(
            *(cell.model, cell.data, str(cell.seed), f"[{style}]{state}[/]" if style else state),
            f"{run.progress.iteration:,}",
            _number(run.training_processor, ".0f"),
            _number(run.dice, ".3f"),
        )
    return table


def plan_table(plan: ExperimentPlan) -> Table:
    """Return what the runs will be: the width, parameters, work and length of every model on every data set."""
    match, budget = plan.matrix.match, plan.matrix.budget
    title = "Models" if match is None else f"Models, matched to {match.reference} by {match.by}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("model", "data"):
        table.add_column(name)
    each = "" if budget is None or budget.steps else "CPU s each" if budget.seconds else "GMAC each"
    for name in ("base_nc", "parameters", "kMAC per voxel", "match", "iterations", *([each] if each else [])):
        table.add_column(name, justify="right")
    seed = plan.matrix.seeds[0]
    for data in plan.matrix.data:
        for model in plan.matrix.models:
            config = plan.config(Cell(model, data, seed))
            net, width = config.build_network(), plan.widths.get(model)
            length = plan.lengths.get(f"{model}/{data}")
            one = "" if length is None else f"{length.each / (1 if budget and budget.seconds else 1e9):.3g}"
            table.add_row(
                *(model, data, "" if width is None else ", ".join(map(str, width.base_nc))),
                f"{count_parameters(net):,}",
                f"{macs_per_voxel(net, config.prediction.block_shape) / 1e3:,.1f}",
                "" if width is None else f"{width.difference:+.1%}",
                f"{config.training.iterations:,}",
                *([one] if each else []),
            )
    return table


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
