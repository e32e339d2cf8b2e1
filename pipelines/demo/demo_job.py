"""A whole run on a generated volume: write, train, predict, evaluate, draw."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.demo.demo_volume import CLASSES, write_demo_volume
from scalenet_gp.pipelines.evaluation import EvaluationResult, final_evaluation
from scalenet_gp.pipelines.process import progress_bar
from scalenet_gp.pipelines.training import train

__all__ = ["DemoResult", "demo"]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Files of the demo, and the scores of the held-out region."""

    volume: Path
    log: Path
    checkpoint: Path
    prediction: Path
    picture: Path
    scores: EvaluationResult


def demo(folder: Path, config: Config | None = None, device: str | None = None) -> DemoResult:
    """Make a volume, train on it, and evaluate the prediction of the held-out part.

    Args:
        folder: folder for everything; must not exist.
        config: the run; ``configs/demo.yaml`` unless given.
        device: name of a torch device; the first GPU unless given, the processor where there is none.

    Raises:
        FileExistsError: there is something at ``folder``.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder, or remove it")
    if config is None:
        with resources.as_file(resources.files("scalenet_gp.pipelines") / "configs" / "demo.yaml") as path:
            config = Config.read(path)
    volume, run = folder / "volume.zarr", folder / "run"
    with progress_bar("volume", 2 + len(CLASSES)) as advance:
        write_demo_volume(volume, progress=advance)
    checkpoint = train(config, volume, run, device)
    end = final_evaluation(config, volume, run, checkpoint, device)
    return DemoResult(volume, run / "log", checkpoint, end.prediction, end.picture, end.scores)
