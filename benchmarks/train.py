"""Training steps per second: our Train node against gunpowder's, and the time of each part of a step.

    python benchmarks/train.py                 # both nodes, six minutes on two cores; on a GPU, bfloat16 too
    python benchmarks/train.py --memory        # memory of the processes over 1,000 iterations, two minutes
    python benchmarks/train.py --log           # the share of time that TensorBoardLog takes, two minutes

Both nodes train the same network on the same batches with the same loss (cross-entropy plus Dice, of logits) and the
same optimizer (the default one), in float32, from the same weights: their first losses have to agree. gunpowder's node
gets the network by `GunpowderModel`. Neither writes checkpoints or logs. Each runs in a process of its own, they take
turns, and a figure is the median of its runs.

The chain is that of an annotated crop whose decoded chunks are cached: raw data, and as a target the same data before
gain, shift and noise, both at every scale, deformed (control points every 512 nm, displaced by 48 nm), rotated and
mirrored. One worker makes batches ahead; torch computes on the other cores, at least one. On two cores that is one
each. So the network is small enough to learn from a batch in about the time in which one core makes it: two scales, 32
and 8 nm, 8 channels at the finest level, outputs of 8³ and 16³ voxels from inputs of 56³ and 60³.

Four parts of a step count as work: the network's forward pass (with casts), the loss (with its checks), autograd's
backward pass, and the optimizer (its step, and the release of gradients). Everything else is outside: waiting for data
(with unpacking), gunpowder's handling of requests and batches, planning, and conversion between tensors and arrays; in
our node also the checks that loss, prediction and gradient are finite, and the gradient's norm.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import torch
from data_volume import write_volume
from rich.console import Console
from rich.table import Table
from training_sides import LENGTH, NETWORKS, Run, Stopwatch, threads, training

from scalenet_gp.training import LogOptions, resident_bytes

WARM_UP = 10
WORK = ("forward", "loss", "backward", "optimizer")
CUDA = torch.cuda.is_available()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each node (5)")
    parser.add_argument("--seconds", type=float, default=20, help="least duration of a run (20)")
    parser.add_argument("--memory", action="store_true", help="memory over 1,000 iterations of a tiny network")
    parser.add_argument("--log", action="store_true", help="the share of time that TensorBoardLog takes")
    parser.add_argument("--task", choices=[task.__name__ for task in TASKS], help=argparse.SUPPRESS)
    parser.add_argument("--run", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        warnings.simplefilter("ignore")
        print(json.dumps(globals()[arguments.task](Run(**arguments.run))))
        return
    console = Console(width=120, highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        volume = str(Path(folder) / "volume")
        write_volume(Path(volume), LENGTH)
        if arguments.memory:
            console.print(memory_table(answer_of(memory, Run(volume, network="tiny", folder=folder))))
            return
        if arguments.log:
            console.print(log_table(answer_of(logging, Run(volume, folder=folder))))
            return
        console.print(
            f"{os.cpu_count()} cores, torch {torch.__version__}, gunpowder {version('gunpowder')}, median of "
            f"{arguments.repeats}, runs of {arguments.seconds:g} s, freed memory is kept"
        )
        against_gunpowder(console, Run(volume, seconds=arguments.seconds), arguments.repeats)
        if CUDA:
            on_gpu(console, Run(volume, network="large", seconds=arguments.seconds), arguments.repeats)
        else:
            console.print("No GPU is here: bfloat16 and torch.compile are left out")


def answer_of(task: Callable[[Run], Any], run: Run) -> Any:
    """Run a task in a process of its own and return its result."""
    command = [sys.executable, __file__, "--task", task.__name__, "--run", json.dumps(vars(run))]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(answer.splitlines()[-1])


# --------------------------------------------------------------------------- tasks, each in a process of its own


def steps(run: Run) -> dict[str, Any]:
    """Return the steps per second after a warm-up, ms of the median step and of each part of the mean one, and the
    first losses."""
    watch = Stopwatch()
    with training(run, watch) as (step, _):
        losses = [float(step().loss) for _ in range(WARM_UP)]
        watch.seconds.clear()
        ends = [time.perf_counter()]
        while ends[-1] < ends[0] + run.seconds or len(ends) <= run.iterations:
            step()
            ends.append(time.perf_counter())
    count, elapsed = len(ends) - 1, ends[-1] - ends[0]
    return {
        "rate": count / elapsed,
        "median": 1000 * statistics.median(b - a for a, b in pairwise(ends)),
        "parts": {part: 1000 * sum(watch.seconds[part]) / count for part in (*WORK, "waiting")},
        "losses": losses,
    }


def memory(run: Run) -> list[tuple[int, int, int]]:
    """Return iterations, and the bytes that this process and its worker hold after them."""
    held = []
    with training(run, Stopwatch()) as (step, _):
        for iteration in range(1, 1001):
            step()
            if iteration % 100 == 0:
                held.append((iteration, resident_bytes(), sum(resident_of(c.pid) for c in active_children())))
    return held


def resident_of(process: int | None) -> int:
    """Return the bytes that a process holds."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def logging(run: Run) -> dict[str, float]:
    """Return the seconds that the log takes while it writes two sets of images, and the duration of all steps.

    The update ratio is computed for the log alone, within the step. Its time is the difference between steps with it
    and without it, backward pass and optimizer subtracted.
    """
    watch = Stopwatch()
    with training(run, watch) as (step, trainer):
        for _ in range(WARM_UP):
            step()
        watch.seconds.clear()
        first, options = trainer.iteration + 1, LogOptions()
        scalars_every, images_every = options.scalars_every, options.images_every
        begun = time.perf_counter()
        for _ in range(2 * images_every):
            step()
        elapsed = time.perf_counter() - begun
    seconds = watch.seconds
    optimizer = [sum(pair) for pair in zip(seconds["optimizer"][::2], seconds["optimizer"][1::2], strict=True)]
    beyond = [a - b - o for a, b, o in zip(seconds["advance"], seconds["backward"], optimizer, strict=True)]
    scalars, images, ratios, others = [], [], [], []
    for iteration, (written, rest) in enumerate(zip(seconds["log"], beyond, strict=True), first):
        (ratios if iteration % scalars_every == 0 else others).append(rest)
        if iteration % scalars_every == 0:
            (images if iteration % images_every == 0 else scalars).append(written)
    ratio = max(0.0, statistics.median(ratios) - statistics.median(others))
    return {
        "scalars": statistics.median(scalars),
        "scalars and images": statistics.median(images),
        "update ratio": ratio,
        "all": sum(seconds["log"]) + ratio * len(ratios),
        "elapsed": elapsed,
        "iterations": 2 * images_every,
    }


TASKS = (steps, memory, logging)


# ---------------------------------------------------------------------------------------------------------- comparing


def against_gunpowder(console: Console, run: Run, repeats: int) -> None:
    sides = ("gunpowder", "ours")
    if CUDA:
        console.print(f"on {torch.cuda.get_device_name()}")
    console.print(f"{threads(run)} torch threads, {run.workers} worker")
    answers: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for repeat in range(repeats):
        for side in sides if repeat % 2 == 0 else sides[::-1]:
            answers[side].append(answer_of(steps, replace(run, node=side)))
            console.print(f"{side}: {answers[side][-1]['rate']:.3f} steps/s")
    apart = max(
        abs(a - b) for a, b in zip(answers["gunpowder"][0]["losses"], answers["ours"][0]["losses"], strict=True)
    )
    if not apart < 1e-3:
        raise SystemExit(f"the first {WARM_UP} losses differ by up to {apart}; the two sides cannot be compared")
    table = Table(
        "two scales, fp32",
        "gunpowder.torch.Train",
        "scalenet_gp.nodes.Train",
        "ratio",
        caption=f"largest difference between the first {WARM_UP} losses: {apart:.1e}",
    )
    for row, figure, digits in (("steps/s", "rate", 3), ("median step, ms", "median", 1)):
        values = {side: [answer[figure] for answer in answers[side]] for side in sides}
        # of neighboring runs, which other load slows alike
        ratios = [mine / other for mine, other in zip(values["ours"], values["gunpowder"], strict=True)]
        medians = (f"{statistics.median(values[side]):.{digits}f}" for side in sides)
        table.add_row(row, *medians, f"{statistics.median(ratios):.3f} ×")
    parts = {side: [parts_of(answer) for answer in answers[side]] for side in sides}
    for part in parts["ours"][0]:
        cells = []
        for side in sides:
            spent = statistics.median(of_run[part][0] for of_run in parts[side])
            share = statistics.median(of_run[part][1] for of_run in parts[side])
            cells.append(f"{spent:.1f} ms, {100 * share:.1f} %")
        table.add_row(part, *cells)
    console.print(table)


def parts_of(answer: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return ms of each part of a step, and its share."""
    step, spent = 1000 / answer["rate"], dict(answer["parts"])
    work = sum(spent[part] for part in WORK)
    spent |= {"all else": step - work - spent["waiting"], "outside: waiting and all else": step - work}
    return {part: (value, value / step) for part, value in spent.items()}


def on_gpu(console: Console, run: Run, repeats: int) -> None:
    """Print the samples per second of our node; float32 is torch's default, whose convolutions may round to TF32."""
    sides = {
        "fp32, eager": {"precision": "float32"},
        "bf16, compiled": {"precision": "bfloat16", "compile": True},
    }
    run = replace(run, workers=16, batch=4)
    answers: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, compute in sides.items():
            answers[side].append(answer_of(steps, replace(run, compute=compute)))
    table = Table(
        f"{'/'.join(map(str, NETWORKS[run.network].outputs))} nm, batches of {run.batch}, {run.workers} workers",
        "samples/s",
        "waiting for data",
        "ratio",
        caption=f"outputs of {', '.join(f'{n}³' for n in NETWORKS[run.network].outputs.values())} voxels, "
        "voxels in channels_last_3d order on both sides",
    )
    base = statistics.median(answer["rate"] for answer in answers["fp32, eager"])
    for side, of_side in answers.items():
        rate = statistics.median(answer["rate"] for answer in of_side)
        waiting = statistics.median(answer["parts"]["waiting"] * answer["rate"] / 1000 for answer in of_side)
        table.add_row(side, f"{run.batch * rate:.1f}", f"{100 * waiting:.1f} %", f"{rate / base:.2f} ×")
    console.print(table)


def memory_table(held: list[tuple[int, int, int]]) -> Table:
    growth = [(held[-1][side] - held[0][side]) * 1000 / (held[-1][0] - held[0][0]) for side in (1, 2)]
    table = Table(
        "iterations",
        "process, MiB",
        "worker, MiB",
        caption="a tiny network, with log and checkpoints; physical memory held",
    )
    for iteration, *sides in held:
        table.add_row(str(iteration), *(f"{side / 2**20:.1f}" for side in sides))
    table.add_row("growth per 1,000", *(f"{side / 2**20:+.1f}" for side in growth))
    return table


def log_table(taken: Mapping[str, float]) -> Table:
    table = Table(
        "TensorBoardLog, default intervals", "", caption=f"{taken['iterations']} iterations of the small network"
    )
    for part in ("scalars", "scalars and images", "update ratio"):
        table.add_row(f"{part}, ms each time", f"{1000 * taken[part]:.1f}")
    table.add_row("a step, ms", f"{1000 * taken['elapsed'] / taken['iterations']:.1f}")
    table.add_row("share of the time", f"{100 * taken['all'] / taken['elapsed']:.2f} %")
    return table


if __name__ == "__main__":
    main()
