"""The runs of docs/evidence: networks side by side, kept as CSV, and shown as a table and a figure.

    python benchmarks/evidence.py models ablations               # make the runs that are missing, then table and figure
    SCALENET_VNC=vnc.zarr python benchmarks/evidence.py sections
    python benchmarks/evidence.py models --quick --folder /tmp/evidence    # a smoke test

Each file of `benchmarks/evidence/` names a task of `learning.py`, the sides, the seconds that each may learn for and
the number of seeds. A row of the CSV is one point in time of one run, with the processor, the commit and the version of
torch that it was made with. Runs that are in the file are not made again: delete their rows for that.
Multiply-accumulates are those of a prediction, margins included, for each voxel of the finest size.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
import yaml
from evidence_files import DOCS, Row, add_rows, read_rows, write_markdown
from learning import learn
from learning_sides import Learner, OwnSide, Side, build
from learning_tasks import TASKS
from learning_volumes import Task
from pydantic import Field, PositiveFloat, PositiveInt
from torch.utils.flop_counter import FlopCounterMode

from scalenet_gp.kernels import keep_freed_memory
from scalenet_gp.options import Options
from scalenet_gp.pipelines.runs import describe_machine

FILES = Path(__file__).with_name("evidence")
POINTS = 3


class Matrix(Options):
    """The sides of one comparison.

    Attributes:
        title: what is compared.
        task: the name of a task of `learning.py`.
        seconds: CPU seconds of each run.
        iterations: iterations of each run, in the place of the time, where the sides take about the same work.
        seeds: runs of each side.
        sides: by name.
    """

    title: str
    task: Literal["2D", "3D", "vnc"]
    seconds: PositiveFloat = 60
    iterations: PositiveInt | None = None
    seeds: PositiveInt
    sides: dict[str, Side] = Field(min_length=1)

    @classmethod
    def read(cls, name: str) -> Matrix:
        """Return the matrix of a file of :data:`FILES`."""
        return cls.model_validate(yaml.safe_load((FILES / f"{name}.yaml").read_text(encoding="utf-8")))

    def budgets(self) -> list[str]:
        """Return what a run has had at each of its points in time."""
        shares = [(n + 1) / POINTS for n in range(POINTS)]
        if self.iterations is not None:
            return [f"step {round(self.iterations * share)}" for share in shares]
        return [f"{self.seconds * share:.3g} s" for share in shares]


def main() -> None:
    known = sorted(path.stem for path in FILES.glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="+", choices=known, help=", ".join(known))
    parser.add_argument("--folder", type=Path, default=DOCS, help="folder of the results (docs/evidence)")
    parser.add_argument(
        "--only-write", action="store_true", help="make no runs: write tables and figures of those there are"
    )
    parser.add_argument("--quick", action="store_true", help="small volumes, a few steps, one seed")
    options = parser.parse_args()
    if options.quick and options.folder.resolve() == DOCS:
        parser.error("--quick makes runs that are not evidence: give it another --folder than docs/evidence")
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.simplefilter("ignore")
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.name:
        matrix = Matrix.read(name)
        if options.quick:
            matrix = matrix.model_copy(update={"seconds": 1, "seeds": 1, "iterations": None})
        path = options.folder / f"{name}.csv"
        if not options.only_write:
            run(matrix, path, options.quick)
        rows = read_rows(path)
        write_markdown(path, *table(matrix, rows))
        draw(matrix, rows, path.with_suffix(".png"))


# ------------------------------------------------------------------------------------------------------------- running


def run(matrix: Matrix, path: Path, quick: bool) -> None:
    """Make the runs that are not in a file yet, and add them to it."""
    task = TASKS[matrix.task](quick)
    done = {(row["side"], int(row["seed"])) for row in read_rows(path)}
    machine = {key: describe_machine()[key] for key in ("processor", "torch", "commit")}
    for seed in range(matrix.seeds):
        for name, side in matrix.sides.items():
            if (name, seed) in done:
                continue
            made = learn(task, side, seed, matrix.seconds, POINTS, matrix.iterations)
            known = {"side": name, "seed": seed, "parameters": made["parameters"], **facts(task, side), **machine}
            rows = []
            for point in made["points"]:
                scores = {key: f"{value:.4f}" for key, value in point["dice"].items()}
                times = {"iteration": point["iteration"], "seconds": f"{point['seconds']:.1f}"}
                kind = {"kind": f"{point['kind']:.4f}"} if "kind" in point else {}
                rows.append(known | times | {"mean": f"{point['mean']:.4f}"} | kind | scores)
            add_rows(path, rows)
            print(
                f"{matrix.title}, {name}, seed {seed}: {[row['mean'] for row in rows]} {rows[-1].get('kind', '')}",
                flush=True,
            )


def facts(task: Task, side: Side) -> dict[str, str]:
    """Return how far (µm) a side sees, and its work: thousands of multiply-accumulates per finest voxel."""
    learner = build(side, task, 0, 100)
    factor = task.held_out.factor(learner.judged.voxel_size)
    voxels = math.prod(n * f for n, f in zip(learner.judged.shape, factor, strict=True))
    inputs = {name: torch.zeros(1, 1, *box.shape) for name, box in learner.judged_inputs.items()}
    with FlopCounterMode(display=False) as counter:
        learner.predict(inputs)
    return {"sees": f"{reach(learner, side):.1f}", "kmacs": f"{counter.get_total_flops() / 2000 / voxels:.2f}"}


def reach(learner: Learner, side: Side) -> float:
    """Return how wide (µm) an output voxel sees; instance normalization makes it depend on the whole patch."""
    if isinstance(side, OwnSide) and learner.net.tileable:
        return max(shape[-1] for shape in learner.net.receptive_field(learner.finest).values()) / 1000
    return max(box.shape[-1] * float(box.voxel_size[-1]) for box in learner.judged_inputs.values()) / 1000


# ------------------------------------------------------------------------------------------------------------- showing


def by_side(matrix: Matrix, rows: Iterable[Row]) -> dict[str, list[list[Row]]]:
    """Return the runs of each side, each as its points in time, in the order of the matrix."""
    runs: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        runs[row["side"], row["seed"]].append(row)
    return {side: found for side in matrix.sides if (found := [run for (name, _), run in runs.items() if name == side])}


def spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def table(matrix: Matrix, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table, a side a row: mean and standard deviation over seeds."""
    sides = by_side(matrix, rows)
    fixed = ("side", "seed", "parameters", "sees", "kmacs", "processor", "torch", "commit", "iteration", "seconds")
    classes = [name for name in rows[0] if name not in (*fixed, "mean", "kind")]
    kind = ["kind"] if "kind" in rows[0] else []
    times = [f"Dice at {part}" for part in matrix.budgets()]
    head = ["network", "seeds", "parameters", "kMAC/voxel", "sees (µm)", "steps", "seconds", *times, *kind, *classes]
    best = {key: max(mean_of(runs, key) for runs in sides.values()) for key in ("mean", *kind)}
    lines = []
    for side, runs in sides.items():
        first = runs[0][-1]
        cells = [side, str(len(runs)), f"{int(first['parameters']):,}", first["kmacs"], first["sees"]]
        cells += [f"{mean_of(runs, key):.0f}" for key in ("iteration", "seconds")]
        cells += [spread([float(run[n]["mean"]) for run in runs]) for n in range(POINTS)]
        cells += [spread([float(run[-1][key]) for run in runs]) for key in kind]
        for key, column in (("mean", -1 - len(kind)), *((key, -1) for key in kind)):
            if mean_of(runs, key) == best[key]:
                cells[column] = f"**{cells[column]}**"
        cells += [f"{mean_of(runs, key):.3f}" for key in classes]
        lines.append(cells)
    return head, lines


def mean_of(runs: Sequence[Sequence[Row]], key: str) -> float:
    """Return the mean of a column at the end of the runs."""
    return statistics.mean(float(run[-1][key]) for run in runs)


def draw(matrix: Matrix, rows: Sequence[Row], path: Path) -> None:
    """Draw the scores at the end, a line a side and a dot a seed, beside the work of the side."""
    from matplotlib.figure import Figure

    sides = by_side(matrix, rows)
    columns = {"mean": "mean Dice"} | ({"kind": "share of kinds that are right"} if "kind" in rows[0] else {})
    columns["kmacs"] = "thousands of multiply-accumulates per voxel"
    figure = Figure(figsize=(4.2 * len(columns) + 1.5, 0.28 * len(sides) + 1.2), layout="constrained")
    for axis, (key, label) in zip(
        figure.subplots(1, len(columns), sharey=True, squeeze=False)[0], columns.items(), strict=True
    ):
        for place, runs in enumerate(sides.values()):
            values = [float(run[-1][key]) for run in runs]
            if key == "kmacs":
                axis.plot(values[:1], [place], "s", color="C2")
                continue
            axis.plot([min(values), max(values)], [place, place], color="C0", alpha=0.4)
            axis.plot(values, [place] * len(values), "o", color="C0", ms=4)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
        if key == "kmacs":
            axis.set_xscale("log")
        if key == "kind":
            axis.axvline(0.5, color="grey", linewidth=0.8, linestyle=":")
        axis.set_yticks(range(len(sides)), list(sides))
    figure.axes[0].invert_yaxis()
    figure.suptitle(f"{matrix.title}: {matrix.budgets()[-1]}")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
