"""A whole run on generated neurites: write, train, predict, segment, evaluate, draw."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rich.table import Table

from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import resolve_sources, sources_of
from scalenet_gp.pipelines.demo.neurite_volume import HELD_OUT, NEURITES, write_neurite_volume
from scalenet_gp.pipelines.demo.recording import RAW
from scalenet_gp.pipelines.evaluation import SegmentationScores, evaluate_segmentation, segmentation_scores_table
from scalenet_gp.pipelines.plots import draw_objects
from scalenet_gp.pipelines.prediction import Workers, predict
from scalenet_gp.pipelines.process import progress_bar
from scalenet_gp.pipelines.runs import RunFolder
from scalenet_gp.pipelines.segmentation import objects_path, segment
from scalenet_gp.pipelines.training import train

__all__ = ["InstancesResult", "InstancesRun", "demo_instances", "instances_table"]

CONFIGS = {"U-Net, components": "demo_instances_unet.yaml", "ScaleNet, affinities": "demo_instances.yaml"}
"""The run files of the demo by their titles."""


@dataclass(frozen=True, slots=True)
class InstancesRun:
    """One run.

    Attributes:
        folder: the folder of the run.
        segmentation: zarr group of the objects of the held-out part.
        objects: CSV file, the table of them.
        scores: their scores against the true neurites.
        seconds: duration of each step.
    """

    folder: Path
    segmentation: Path
    objects: Path
    scores: SegmentationScores
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class InstancesResult:
    """Files and scores of the demo.

    Attributes:
        volume: the generated volume.
        runs: the runs by their titles.
        picture: PNG file of a section of the held-out part: raw data, true neurites, and those that each run finds.
    """

    volume: Path
    runs: Mapping[str, InstancesRun]
    picture: Path


def demo_instances(
    folder: Path, configs: Mapping[str, Config] | None = None, device: str | None = None, seed: int = 0
) -> InstancesResult:
    """Make a volume of neurites; train networks, and find, judge and draw the neurites of the held-out part.

    Args:
        folder: folder for everything; must not exist.
        configs: the runs by their titles, whose words before a comma name their folders. Unless given, a U-Net that
            learns where neurites are, whose components are taken, and a ScaleNet that learns affinities and shape
            descriptors. Each has one source to evaluate, and segments :data:`.NEURITES`.
        device: name of a torch device; the first GPU unless given, the processor where there is none.
        seed: seed of the generated volume.

    Raises:
        FileExistsError: there is something at ``folder``.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder, or remove it")
    if configs is None:
        with resources.as_file(resources.files("scalenet_gp.pipelines") / "configs") as place:
            configs = {title: Config.read(place / file) for title, file in CONFIGS.items()}
    volume = folder / "volume.zarr"
    with progress_bar("volume", 4) as advance:
        write_neurite_volume(volume, seed, progress=advance)
    runs = {
        title: _run(config, volume, folder / title.split(",")[0].lower(), device) for title, config in configs.items()
    }
    found = {title: run.segmentation / NEURITES for title, run in runs.items()}
    picture = draw_objects(volume / RAW, volume / HELD_OUT, found, folder / "picture.png")
    return InstancesResult(volume, runs, picture)


def instances_table(result: InstancesResult) -> Table:
    """Return the scores of all runs, side by side."""
    scores, tolerances = {}, {}
    for title, run in result.runs.items():
        ((scores[title], tolerances[title]),) = zip(
            run.scores.classes.values(), run.scores.tolerances.values(), strict=True
        )
    table = segmentation_scores_table(SegmentationScores(scores, tolerances))
    table.title = "Neurites of the held-out part"
    steps = {step: None for run in result.runs.values() for step in run.seconds}
    table.add_section()
    for step in steps:
        table.add_row(f"{step} (s)", *(f"{run.seconds[step]:.0f}" for run in result.runs.values()))
    return table


def _run(config: Config, volume: Path, run: Path, device: str | None) -> InstancesRun:
    """Train, predict the source to evaluate, segment it, and compare it with the truth."""
    folder, seconds = RunFolder(run), {}
    (source,) = (one.name for one in sources_of(config, resolve_sources(config.data, volume), "evaluate"))
    begin = time.perf_counter()
    checkpoint = train(config, volume, run, device)
    seconds["training"] = time.perf_counter() - begin
    begin = time.perf_counter()
    workers = Workers(devices=() if device is None else (device,))
    predict(config, volume, checkpoint, folder.prediction, source=source, workers=workers)
    seconds["prediction"] = time.perf_counter() - begin
    begin = time.perf_counter()
    segment(config, folder.prediction, folder.segmentation)
    seconds["segmentation"] = time.perf_counter() - begin
    scores = evaluate_segmentation(
        config, volume, folder.segmentation, output=folder.segmentation_scores, source=source
    )
    return InstancesRun(run, folder.segmentation, objects_path(folder.segmentation), scores, seconds)
