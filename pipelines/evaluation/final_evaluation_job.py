"""The final evaluation of a run, in a region that the network has not learned from."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.blockwise import WorkFolder
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import resolve_sources, sources_of
from scalenet_gp.pipelines.evaluation.evaluate_job import EvaluationResult, evaluate
from scalenet_gp.pipelines.plots import draw_prediction
from scalenet_gp.pipelines.prediction import Workers, predict
from scalenet_gp.pipelines.runs import RunFolder
from scalenet_gp.training import TensorBoardLog, load_checkpoint
from scalenet_gp.volumes import StrPath

__all__ = ["RunResult", "final_evaluation"]


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run.

    Attributes:
        network: the checkpoint whose network was evaluated.
        prediction: zarr group of its prediction of the evaluation region; of several sources, a group for each.
        picture: PNG file of a section of the prediction beside the annotation; of the first source.
        scores: the scores of each output, over all sources.
        of_sources: the scores of each source, by its name.
        seconds: time of the predictions.
        processor_seconds: processor time of the predictions, of all threads.
    """

    network: Path
    prediction: Path
    picture: Path
    scores: EvaluationResult
    of_sources: Mapping[str, EvaluationResult] = field(default_factory=dict)
    seconds: float = 0.0
    processor_seconds: float = 0.0


def final_evaluation(
    config: Config, volume: StrPath, run: Path, checkpoint: Path, device: str | None = None
) -> RunResult:
    """Predict the evaluation region, compare it with the annotation, draw both, and log the scores.

    With several sources to evaluate, each is predicted, and the scores are those of their summed counts. The network is
    that of the best validation if the run has validations, and otherwise that of ``checkpoint``.
    Prediction, scores and picture of an earlier evaluation of the run are replaced.

    Args:
        config: the run file.
        volume: folder, or its URL, that paths of the config start at.
        run: folder of the run.
        checkpoint: the newest checkpoint.
        device: name of a torch device. By default it is the first GPU, or the processor where there is none.

    Raises:
        FileNotFoundError: there is no such volume or checkpoint.
        ScaleNetError: the volume does not fit the config, or nothing is annotated in the region.
    """
    sources = sources_of(config, resolve_sources(config.data, volume), "evaluate")
    if not sources:
        raise ConfigError("there is nothing to evaluate: write evaluation.region, or give a source the use evaluate")
    folder = RunFolder(run)
    network = folder.best if folder.best.is_file() else checkpoint
    for left in (folder.prediction, WorkFolder(folder.prediction).path):
        shutil.rmtree(left, ignore_errors=True)
    for left in (folder.scores, *run.glob(f"{folder.picture.stem}*.png")):
        left.unlink(missing_ok=True)
    workers = Workers(devices=() if device is None else (device,))
    options = config.prediction.model_copy(update={"outputs": ()})  # every output is compared with the annotation
    of_sources, pictures = {}, []
    seconds = processor_seconds = 0.0
    for source in sources:
        # a folder of its own for each, if there are several
        slug = source.name.replace("/", "_")
        made, picture = folder.prediction, folder.picture
        if len(sources) > 1:
            made, picture = made / slug, picture.with_name(f"{picture.stem}_{slug}.png")
        begun, used = time.perf_counter(), time.process_time()
        predict(config, volume, network, made, source=source.name, options=options, workers=workers)
        seconds += time.perf_counter() - begun
        processor_seconds += time.process_time() - used
        of_sources[source.name] = evaluate(config, volume, made, source=source.name)
        pictures.append(draw_prediction(config, volume, made, picture, source=source.name))
    scores = reduce(add, of_sources.values())
    scores.write(folder.scores)
    log = TensorBoardLog(folder.log)
    iteration = load_checkpoint(checkpoint).iteration
    log.write_final_scores(_markdown(scores), iteration)
    log.write_hparams(_hparams(config), scores.metrics(), iteration)
    log.close()
    return RunResult(network, folder.prediction, pictures[0], scores, of_sources, seconds, processor_seconds)


def _hparams(config: Config) -> dict[str, bool | int | float | str]:
    """Return the options of a run by dotted name, numbers and text, as TensorBoard compares them."""
    plain = config.model_dump(mode="json", include={"network", "training", "augmentation"})
    return dict(_flat("", plain))


def _flat(name: str, value: Any) -> list[tuple[str, bool | int | float | str]]:
    if isinstance(value, dict):
        return [pair for key, below in value.items() for pair in _flat(f"{name}.{key}".lstrip("."), below)]
    if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        return [pair for number, below in enumerate(value) for pair in _flat(f"{name}.{number}", below)]
    return [(name, value if isinstance(value, bool | int | float | str) else str(value))]


def _markdown(result: EvaluationResult) -> str:
    """Return all scores as tables in Markdown."""
    rows = [
        (output, label, *(f"{value:.3f}" for value in counts.scores.values()))
        for output, classes in result.classes.items()
        for label, counts in classes.items()
    ]
    names = next(iter(next(iter(result.classes.values())).values())).scores
    tables = [_table(("output", "class", *names), rows)]
    if result.voxels:
        rows = [
            (output, group, label, f"{voxels.recall[label]:.3f}", f"{result.objects[output][group].recall[label]:.3f}")
            for output, groups in result.voxels.items()
            for group, voxels in groups.items()
            for label in voxels.classes
        ]
        tables.append(_table(("output", "group", "class", "recall of voxels", "recall of objects"), rows))
    return "\n\n".join(tables)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))
