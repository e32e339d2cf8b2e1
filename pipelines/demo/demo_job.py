"""A whole run on a generated volume, of a ScaleNet and of a single U-Net: write, train, predict, evaluate, draw."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.demo.demo_volume import CLASSES, ORGANELLES, write_demo_volume
from scalenet_gp.pipelines.evaluation import RunResult, final_evaluation
from scalenet_gp.pipelines.plots import draw_comparison
from scalenet_gp.pipelines.process import progress_bar
from scalenet_gp.pipelines.training import train

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
        result: prediction, picture and scores of the held-out part.
    """

    folder: Path
    output: str
    seconds: float
    result: RunResult


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

    Args:
        folder: folder for everything; must not exist.
        configs: the runs by the names of the networks; a ScaleNet and a single U-Net unless given.
        device: name of a torch device; the first GPU unless given, the processor where there is none.
        seed: seed of the generated volume.

    Raises:
        FileExistsError: there is something at ``folder``.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder, or remove it")
    if configs is None:
        with resources.as_file(resources.files("scalenet_gp.pipelines") / "configs") as place:
            configs = {name: Config.read(place / file) for name, file in CONFIGS.items()}
    volume = folder / "volume.zarr"
    with progress_bar("volume", 2 + len(CLASSES)) as advance:
        write_demo_volume(volume, seed, progress=advance)
    runs = {}
    for name, config in configs.items():
        run = folder / name.lower()
        begin = time.perf_counter()
        checkpoint = train(config, volume, run, device)
        seconds = time.perf_counter() - begin
        result = final_evaluation(config, volume, run, checkpoint, device)
        runs[name] = DemoRun(run, config.build_network().output_keys[-1], seconds, result)
    sides = {_caption(name, runs[name]): (config, runs[name].result.prediction) for name, config in configs.items()}
    picture = draw_comparison(sides, volume, folder / "picture.png", ORGANELLES, ("mito_neuron", "mito_glia"))
    return DemoResult(volume, runs, picture)


def comparison_table(result: DemoResult) -> Table:
    """Return the scores of all networks at their finest output, side by side."""
    table = Table(title="The held-out part, at the finest scale", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    for name in result.runs:
        table.add_column(name, justify="right")
    scores = [(run.result.scores, run.output) for run in result.runs.values()]
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
    groups = run.result.scores.objects.get(run.output, {})
    right = (f"right {group} of {count.accuracy:.0%} of {sum(count.total)}" for group, count in groups.items())
    return "\n".join((name, *right))


def _number(score: float) -> str:
    return "-" if math.isnan(score) else f"{score:.3f}"
