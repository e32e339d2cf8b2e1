"""The runs below a folder: those of an experiment, or any others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scalenet_gp.errors import ConfigError
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.experiments import ExperimentFolder, ExperimentPlan
from scalenet_gp.pipelines.runs import RunFacts, RunFolder
from scalenet_gp.training import latest_checkpoint, load_network

__all__ = ["FoundRun", "FoundRuns", "find_runs"]


@dataclass(frozen=True)
class FoundRun:
    """A run that was evaluated.

    Attributes:
        model: name of its model.
        data: name of its data set.
        seed: its seed.
        folder: its folder.
        config: its run file.
        scores: content of ``scores.json``.
        segmentation: content of ``segmentation_scores.json``; None if there is none.
        facts: the facts of a run of an experiment.
    """

    model: str
    data: str
    seed: int
    folder: RunFolder
    config: Config
    scores: dict[str, Any]
    segmentation: dict[str, Any] | None
    facts: RunFacts

    @property
    def output(self) -> str:
        """The finest output, which comes last."""
        return str(list(self.scores["outputs"])[-1])

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint of the network that predicted; None if it was removed."""
        return self.folder.best if self.folder.best.is_file() else latest_checkpoint(self.folder.checkpoints)

    @cached_property
    def net(self) -> LeibNet:
        """The network, with the weights that predicted, or random ones where they were removed."""
        return self.config.build_network() if self.checkpoint is None else load_network(self.checkpoint)


@dataclass(frozen=True)
class FoundRuns:
    """The runs of a report.

    Attributes:
        path: the folder.
        runs: those that were evaluated, by model, data set and seed.
        left_out: folders of runs without scores, and why.
        plan: the plan of the experiment; None for other folders.
    """

    path: Path
    runs: tuple[FoundRun, ...]
    left_out: dict[str, str]
    plan: ExperimentPlan | None

    @property
    def models(self) -> list[str]:
        """The names of models, in the order of the matrix, or by name."""
        return list(dict.fromkeys(run.model for run in self.runs))

    @property
    def data(self) -> list[str]:
        """The names of data sets."""
        return list(dict.fromkeys(run.data for run in self.runs))

    def of(self, model: str, data: str | None = None) -> list[FoundRun]:
        """Return the runs of a model, on one data set or on all."""
        return [run for run in self.runs if run.model == model and data in (None, run.data)]


def find_runs(path: Path) -> FoundRuns:
    """Find the runs below a folder, and name their models and data sets.

    Those of an experiment are called as in its matrix. Of others, runs whose run files differ in the seed alone are of
    one model, called by the folder of the first of them; a data set is called by its raw volume.

    Args:
        path: folder of an experiment, or any folder with folders of runs in it, at any depth.

    Raises:
        FileNotFoundError: there is no such folder.
        ConfigError: there is no run with scores in it.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    plan = ExperimentPlan.read(ExperimentFolder(path).plan)
    left_out: dict[str, str] = {}
    found: list[FoundRun] = []
    if plan is not None:
        for cell in plan.cells:
            folder = RunFolder(ExperimentFolder(path).run(cell))
            _add(found, left_out, path, folder, (cell.model, cell.data, cell.seed))
        order = {model: number for number, model in enumerate(plan.matrix.models)}
        found.sort(key=lambda run: (order[run.model], list(plan.matrix.data).index(run.data), run.seed))
    else:
        for file in sorted(path.rglob("config.yaml")):
            _add(found, left_out, path, RunFolder(file.parent), None)
        found = _named(found, path)
    if not found:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items()) or "there is no config.yaml in it"
        raise ConfigError(f"{path} holds no run that was evaluated: {reasons}")
    return FoundRuns(path, tuple(found), left_out, plan)


def _add(
    found: list[FoundRun],
    left_out: dict[str, str],
    path: Path,
    folder: RunFolder,
    names: tuple[str, str, int] | None,
) -> None:
    place = str(folder.path.relative_to(path))
    if not folder.config.exists():
        left_out[place] = "it was not begun"
        return
    if not folder.scores.exists():
        left_out[place] = "it was not evaluated"
        return
    facts = RunFacts.read(folder.facts)
    if names is not None and not facts.done:
        left_out[place] = "it is not done"
        return
    config = Config.read(folder.config)
    scores = json.loads(folder.scores.read_bytes())
    segmented = folder.segmentation_scores
    segmentation = json.loads(segmented.read_bytes())["classes"] if segmented.exists() else None
    model, data, seed = names or ("", "", config.training.seed)
    found.append(FoundRun(model, data, seed, folder, config, scores, segmentation, facts))


def _named(found: Sequence[FoundRun], path: Path) -> list[FoundRun]:
    """Return the runs with names of models and data sets."""
    models: dict[str, str] = {}
    data: dict[str, str] = {}
    named = []
    for run in found:
        plain = run.config.model_dump(mode="json", exclude={"learned_from", "data"})
        plain["training"]["seed"] = None
        model = models.setdefault(_digest(plain), str(run.folder.path.relative_to(path)))
        sources = run.config.data.model_dump(mode="json", include={"sources", "folder"})
        first = str(next(iter(sources["sources"])).get("raw") or f"data {len(data) + 1}")
        taken = first in data.values() and _digest(sources) not in data
        name = data.setdefault(_digest(sources), f"{first} ({len(data) + 1})" if taken else first)
        named.append(FoundRun(model, name, run.seed, run.folder, run.config, run.scores, run.segmentation, run.facts))
    return sorted(named, key=lambda run: (run.model, run.data, run.seed))


def _digest(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
