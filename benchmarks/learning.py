"""Learning: Dice, and the kinds that only context tells apart, over CPU time, of our networks and others.

    python benchmarks/learning.py                                     # 2D and 3D, every side, 60 s each, three seeds
    SCALENET_VNC=vnc.zarr python benchmarks/learning.py --task vnc    # real data, where they are
    python benchmarks/learning.py --quick                             # a smoke test
    python benchmarks/learning.py --side 'slow={kind: ours, optimization: {learning_rate: 0.0001}}'

All sides learn from the same volumes with the same augmentation and the same loss, on one thread, each from boxes of
the shape that it needs. Only training steps count as time (`time.process_time`), neither samples nor judging. The
length of a run in steps follows from the duration of a few steps before it, so that learning rates fall to zero at its
end. All are judged by the same held-out voxels: Dice at a probability of 0.5, its mean over the classes; and of the
voxels of two kinds of mitochondria the share whose right kind has the higher probability.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from learning_sides import SIDES, Learner, Side, build
from learning_tasks import TASKS
from learning_volumes import Sample, Task
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from scalenet_gp.kernels import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=["2D", "3D"], help="tasks (2D and 3D)")
    parser.add_argument("--side", nargs="+", default=list(SIDES), help="names of sides, or NAME={options} (all)")
    parser.add_argument("--seconds", type=float, default=60, help="CPU seconds of each run (60)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each side (3)")
    parser.add_argument("--points", type=int, default=5, help="points in time at which a run is judged (5)")
    parser.add_argument("--results", type=Path, help="file of results, a run a line; those in it are not made again")
    parser.add_argument("--figure", type=Path, help="file of the figure")
    parser.add_argument("--quick", action="store_true", help="small volumes, a few steps, one seed")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds, arguments.seeds, arguments.points = 1, 1, 2
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.simplefilter("ignore")
    console = Console(width=140, highlight=False)
    sides = dict(read_side(text) for text in arguments.side)
    runs = [json.loads(line) for line in arguments.results.open()] if results_exist(arguments.results) else []
    done = {(run["task"], run["side"], run["seed"], run["seconds"]) for run in runs}
    shown = []
    for name in arguments.task:
        try:
            task = TASKS[name](arguments.quick)
        except FileNotFoundError as error:
            console.print(f"{name} is left out: {error}")
            continue
        for seed in range(arguments.seeds):
            for label, side in sides.items():
                if (name, label, seed, arguments.seconds) in done:
                    continue
                run = {"task": name, "side": label, "seed": seed, "seconds": arguments.seconds}
                run |= learn(task, side, seed, arguments.seconds, arguments.points)
                runs.append(run)
                console.print(describe(run))
                if arguments.results:
                    with arguments.results.open("a") as file:
                        file.write(json.dumps(run) + "\n")
    shown = [
        run
        for run in runs
        if run["task"] in arguments.task and run["side"] in sides and run["seconds"] == arguments.seconds
    ]
    for name in arguments.task:
        if of_task := [run for run in shown if run["task"] == name]:
            console.print(table_of(name, of_task))
    if arguments.figure:
        draw(shown, arguments.figure)


def results_exist(path: Path | None) -> bool:
    return path is not None and path.exists()


def read_side(text: str) -> tuple[str, Side]:
    """Return the name of a side and its options."""
    name, given, options = text.partition("=")
    if not given and name not in SIDES:
        raise SystemExit(f"there is no side {name!r}; there are {', '.join(SIDES)}, or give NAME={{options}}")
    adapter: TypeAdapter[Side] = TypeAdapter(Side)
    return name, adapter.validate_python(yaml.safe_load(options) if given else SIDES[name])


# ------------------------------------------------------------------------------------------------------------ learning


def learn(
    task: Task, side: Side, seed: int, seconds: float, points: int, iterations: int | None = None
) -> dict[str, Any]:
    """Train one network for some seconds, or iterations if they are given, and judge it at some points in time."""
    iterations = iterations or max(points, round(seconds / time_step(task, side)))
    learner = build(side, task, seed, iterations)
    samples = draw_samples(task, learner, [seed, 0])
    marks = [round(iterations * (point + 1) / points) for point in range(points)]
    spent, judged = 0.0, []
    for iteration in range(1, iterations + 1):
        sample = next(samples)
        begun = time.process_time()
        learner.step(sample)
        spent += time.process_time() - begun
        if iteration in marks:
            with learner.judging(draw_samples(task, learner, [seed, 1])):
                judged.append({"seconds": spent, "iteration": iteration, **judge(task, learner)})
    return {
        "parameters": sum(parameter.numel() for parameter in learner.net.parameters()),
        "iterations": iterations,
        "points": judged,
    }


def time_step(task: Task, side: Side, warm_up: int = 2, steps: int = 4) -> float:
    """Return the CPU seconds of a step, of a network that is thrown away."""
    learner = build(side, task, 0, 10_000)
    samples = draw_samples(task, learner, [0, 2])
    taken = []
    for _ in range(warm_up + steps):
        sample = next(samples)
        begun = time.process_time()
        learner.step(sample)
        taken.append(time.process_time() - begun)
    return statistics.median(taken[warm_up:])


def draw_samples(task: Task, learner: Learner, seed: list[int]) -> Iterator[Sample]:
    """Draw batches without end."""
    rng = np.random.default_rng(seed)
    while True:
        drawn = [task.draw(rng, learner.inputs, learner.outputs, learner.finest) for _ in range(learner.batch)]
        first = drawn[0]
        yield Sample(
            {name: torch.cat([sample.inputs[name] for sample in drawn]) for name in first.inputs},
            {name: torch.cat([sample.targets[name] for sample in drawn]) for name in first.targets},
            {name: torch.cat([sample.masks[name] for sample in drawn]) for name in first.masks},
        )


def judge(task: Task, learner: Learner) -> dict[str, Any]:
    """Return the Dice of each class, their mean, and the share of mitochondria whose kind is right."""
    volume, box = task.held_out, learner.judged
    factor = volume.factor(box.voxel_size)
    begins, shape = ([int(n * f) for n, f in zip(each, factor, strict=True)] for each in (box.begin, box.shape))
    predicted = np.zeros((len(task.classes), *(part.stop - part.start for part in volume.judged)), np.float16)
    for corner in corners(volume.judged, shape):
        position = [at - begin for at, begin in zip(corner, begins, strict=True)]
        inputs = {
            name: torch.from_numpy(volume.read_raw(each, position)[None, None])
            for name, each in learner.judged_inputs.items()
        }
        made = learner.predict(inputs)[0].numpy()
        here = tuple(
            slice(at - part.start, at - part.start + n)
            for at, part, n in zip(corner, volume.judged, shape, strict=True)
        )
        predicted[(slice(None), *here)] = np.kron(made, np.ones((1, *factor), made.dtype))
    begin = [part.start for part in volume.annotated]
    inner = tuple(slice(p.start - b, p.stop - b) for p, b in zip(volume.judged, begin, strict=True))
    true = volume.labels[(slice(None), *inner)] > 0
    dice = {}
    for name in task.scored:
        channel = task.classes.index(name)
        said = predicted[channel] >= 0.5
        dice[name] = 2 * float((said & true[channel]).sum()) / max(1, float(said.sum() + true[channel].sum()))
    scores: dict[str, Any] = {"mean": statistics.mean(dice.values()), "dice": dice}
    if task.kinds:
        a, b = task.kinds
        right = [(predicted[own] > predicted[other])[true[own]] for own, other in ((a, b), (b, a))]
        scores["kind"] = statistics.mean(float(each.mean()) for each in right)
    return scores


def corners(judged: tuple[slice, ...], shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Return the first voxels of boxes that cover the judged voxels; the last ones may overlap those before."""
    axes = []
    for part, n in zip(judged, shape, strict=True):
        starts = range(part.start, part.stop, n)
        axes.append([min(start, part.stop - n) for start in starts])
    grid = np.meshgrid(*axes, indexing="ij")
    for corner in np.stack(grid, axis=-1).reshape(-1, len(axes)):
        yield tuple(int(at) for at in corner)


# ------------------------------------------------------------------------------------------------------------- showing


def describe(run: dict[str, Any]) -> str:
    last = run["points"][-1]
    kind = f", kind {last['kind']:.3f}" if "kind" in last else ""
    curve = " ".join(f"{point['mean']:.3f}" for point in run["points"])
    classes = " ".join(f"{name} {value:.3f}" for name, value in last["dice"].items())
    return (
        f"{run['task']}, {run['side']}, seed {run['seed']}: {run['iterations']} steps, {last['seconds']:.0f} s, "
        f"Dice {curve}{kind}; {classes}"
    )


def grouped(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    by_side: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        by_side[run["side"]].append(run)
    return by_side


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values) if len(values) > 1 else 0:.3f}"


def table_of(task: str, runs: list[dict[str, Any]]) -> Table:
    """Return a table of one task: a side a row."""
    points = runs[0]["points"]
    classes = list(points[-1]["dice"])
    times = [f"Dice at {runs[0]['seconds'] * (i + 1) / len(points):.3g} s" for i in range(len(points))]
    kinds = ["kind"] if "kind" in points[-1] else []
    table = Table(
        f"{task}, seeds: {len({run['seed'] for run in runs})}", "steps", "parameters", *times, *kinds, *classes
    )
    for side, of_side in grouped(runs).items():
        cells = [f"{statistics.mean(run['iterations'] for run in of_side):.0f}", f"{of_side[0]['parameters']:,}"]
        cells += [spread([run["points"][i]["mean"] for run in of_side]) for i in range(len(points))]
        cells += [spread([run["points"][-1][name] for run in of_side]) for name in kinds]
        cells += [f"{statistics.mean(run['points'][-1]['dice'][name] for run in of_side):.3f}" for name in classes]
        table.add_row(side, *cells)
    return table


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Draw Dice, and the accuracy of kinds, over CPU seconds: a column a task; bands are standard deviations."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(run["task"] for run in runs))
    rows = [("mean", "Dice, mean of the classes"), ("kind", "share of kinds that are right")]
    figure, axes = plt.subplots(len(rows), len(tasks), figsize=(5 * len(tasks), 7), squeeze=False)
    for column, task in enumerate(tasks):
        for side, of_side in grouped([run for run in runs if run["task"] == task]).items():
            for row, (score, label) in enumerate(rows):
                axis = axes[row][column]
                if score not in of_side[0]["points"][-1]:
                    axis.set_axis_off()
                    continue
                seconds = np.array([[p["seconds"] for p in run["points"]] for run in of_side]).mean(axis=0)
                values = np.array([[p[score] for p in run["points"]] for run in of_side])
                mean, deviation = values.mean(axis=0), values.std(axis=0, ddof=min(1, len(values) - 1))
                (line,) = axis.plot(seconds, mean, marker="o", label=side)
                axis.fill_between(seconds, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.2)
                axis.set(xlabel="CPU seconds", ylabel=label, title=task if row == 0 else "", ylim=(0.0, 1.0))
                axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
