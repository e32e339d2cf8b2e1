"""A whole run on a generated volume, of a ScaleNet and of a single U-Net: write, train, predict, evaluate, draw."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from scalenet_gp.errors import WorkerFaultError
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.demo.demo_volume import CLASSES, ORGANELLES, write_demo_volume
from scalenet_gp.pipelines.evaluation import EvaluationResult
from scalenet_gp.pipelines.experiments import Cell, RunProcess, follow_runs
from scalenet_gp.pipelines.plots import draw_comparison
from scalenet_gp.pipelines.process import progress_bar, stop_requested
from scalenet_gp.pipelines.runs import RunFacts, RunFolder
from scalenet_gp.training import latest_checkpoint
from scalenet_gp.volumes import whole_path

__all__ = ["DemoResult", "DemoRun", "comparison_table", "demo"]

CONFIGS = {"U-Net": "demo_unet.yaml", "ScaleNet": "demo.yaml"}
"""The run files of the demo by the names of the networks."""


@dataclass(frozen=True, slots=True)
class DemoRun:
    """The run of one network.

    Attributes:
        folder: the folder of the run.
        output: name of its finest output.
        seconds: duration of the training.
        network: the checkpoint whose network was evaluated.
        prediction: zarr group of its prediction of the held-out part.
        scores: the scores of the prediction.
    """

    folder: Path
    output: str
    seconds: float
    network: Path
    prediction: Path
    scores: EvaluationResult


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Files and scores of the demo.

    Attributes:
        volume: the generated volume.
        runs: the run of each network by its name.
        picture: PNG file of a section of the held-out part: raw data, truth, and what each network finds.
    """

    volume: Path
    runs: dict[str, DemoRun]
    picture: Path


def demo(
    folder: Path, configs: Mapping[str, Config] | None = None, device: str | None = None, seed: int = 0
) -> DemoResult:
    """Make a volume, train networks on it, and evaluate and draw their predictions of the held-out part.

    The networks learn at the same time, each in a process of its own with its share of the processor's cores.

    Args:
        folder: folder for everything; must not exist.
        configs: the runs by the names of the networks; a ScaleNet and a single U-Net unless given.
        device: name of a torch device; the first GPU unless given, the processor where there is none.
        seed: seed of the generated volume.

    Raises:
        FileExistsError: there is something at ``folder``.
        WorkerFaultError: a run failed; the message has its error and its log.
        Interrupted: a signal asked to end.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder, or remove it")
    if configs is None:
        with resources.as_file(resources.files("scalenet_gp.pipelines") / "configs") as place:
            configs = {name: Config.read(place / file) for name, file in CONFIGS.items()}
    volume = folder / "volume.zarr"
    with progress_bar("volume", 2 + len(CLASSES)) as advance:
        write_demo_volume(volume, seed, progress=advance)
    runs = _do_runs(configs, volume, folder, device)
    sides = {_caption(name, runs[name]): (config, runs[name].prediction) for name, config in configs.items()}
    picture = draw_comparison(sides, volume, folder / "picture.png", ORGANELLES, ("mito_neuron", "mito_glia"))
    return DemoResult(volume, runs, picture)


def _do_runs(configs: Mapping[str, Config], volume: Path, folder: Path, device: str | None) -> dict[str, DemoRun]:
    """Train, predict and evaluate all networks at the same time."""
    processes, lengths = {}, {}
    for name, config in configs.items():
        run, cell = folder / name.lower(), Cell(name, "demo", config.training.seed)
        data = config.data.model_copy(update={"folder": whole_path(volume)})
        processes[cell] = RunProcess(cell, run.with_suffix(".yaml"), run, run.with_suffix(".log"), device)
        config.model_copy(update={"data": data}).write(processes[cell].file)
        lengths[cell] = config.training.iterations
    threads = max(1, len(os.sched_getaffinity(0)) // len(processes))
    with stop_requested() as received:
        ended = follow_runs(processes, lengths, len(processes), threads, received)
    for cell, progress in ended.items():
        if progress.state != "done":
            raise WorkerFaultError(f"{cell.model}: {progress.error}; what it told is in {processes[cell].log}")
    found = {}
    for cell, process in processes.items():
        place = RunFolder(process.folder)
        seconds = math.fsum(attempt.training or 0 for attempt in RunFacts.read(place.facts).attempts)
        network = place.best if place.best.is_file() else latest_checkpoint(place.checkpoints)
        if network is None:
            raise FileNotFoundError(f"{place.checkpoints} holds no checkpoint, though the run is done: was it removed?")
        output = configs[cell.model].build_network().output_keys[-1]
        scores = EvaluationResult.read(place.scores)
        found[cell.model] = DemoRun(process.folder, output, seconds, network, place.prediction, scores)
    return found


def comparison_table(result: DemoResult) -> Table:
    """Return the scores of all networks at their finest output, side by side."""
    table = Table(title="The held-out part, at the finest scale", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    for name in result.runs:
        table.add_column(name, justify="right")
    scores = [(run.scores, run.output) for run in result.runs.values()]
    for label in scores[0][0].classes[scores[0][1]]:
        dice = (found.classes[output][label].scores["dice"] for found, output in scores)
        table.add_row(f"Dice of {label}", *map(_number, dice))
    table.add_section()
    for group in scores[0][0].voxels.get(scores[0][1], {}):
        for what, of in (("voxels", "voxels"), ("objects", "objects")):
            counts = [getattr(found, of)[output][group] for found, output in scores]
            right = (_number(count.accuracy) for count in counts)
            table.add_row(f"right {group} of {sum(counts[0].total)} {what}", *right)
    table.add_section()
    table.add_row("training (s)", *(f"{run.seconds:.0f}" for run in result.runs.values()))
    return table


def _caption(name: str, run: DemoRun) -> str:
    """Return the name of a network and the shares of objects that it decides right."""
    groups = run.scores.objects.get(run.output, {})
    right = (f"right {group} of {count.accuracy:.0%} of {sum(count.total)}" for group, count in groups.items())
    return "\n".join((name, *right))


def _number(score: float) -> str:
    return "-" if math.isnan(score) else f"{score:.3f}"
