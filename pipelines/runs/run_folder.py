"""The folder of a run: the paths in it, a lock for one training at a time, and the check of its config."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.process import folder_lock

__all__ = ["MAY_CHANGE", "RunFolder", "describe_differences"]

MAY_CHANGE = (
    "training.iterations",
    "training.workers",
    "training.compute.device",
    "training.checkpoints",
    "training.log",
    "data.cache",
    "data.folder",
    "prediction",
    "evaluation.region",
    "evaluation.allow_training_region",
    "evaluation.groups",
    "evaluation.smallest_object",
    "evaluation.boundary_tolerance",
    "segmentation",
)
"""The fields, with all below them, that may change when a run is resumed.

They are its length, the number of worker processes, the device, when checkpoints and the log are written, the memory of
the cache, and options of prediction, evaluation and segmentation. ``evaluation.threshold`` may change in a run without
a validation, which would compare networks by it.

The paths of ``data.sources`` may change as well: :meth:`RunFolder.check_volumes` compares the data themselves.
"""

_PATHS = ("raw", "labels", "inputs", "datasplit", "challenge", "groups")
"""The fields of an entry of ``data.sources`` that may change with the place of the data."""

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a run, which may not exist yet.

    Attributes:
        path: the folder.

    Example:
        >>> RunFolder(Path("run")).best.name
        'best.safetensors'
    """

    path: Path

    @property
    def config(self) -> Path:
        """The run file that the run was begun with, YAML."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        """The folder of TensorBoard's log."""
        return self.path / "log"

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation so far."""
        return self.path / "best.safetensors"

    @property
    def prediction(self) -> Path:
        """The zarr group of the prediction of the evaluation region."""
        return self.path / "prediction.zarr"

    @property
    def segmentation(self) -> Path:
        """The zarr group of the objects that were found in the prediction."""
        return self.path / "segmentation.zarr"

    @property
    def scores(self) -> Path:
        """The scores of the prediction, JSON."""
        return self.path / "scores.json"

    @property
    def segmentation_scores(self) -> Path:
        """The scores of a segmentation, JSON."""
        return self.path / "segmentation_scores.json"

    @property
    def consistency(self) -> Path:
        """The consistency of the prediction with itself, JSON."""
        return self.path / "consistency.json"

    @property
    def thresholds(self) -> Path:
        """The thresholds that were chosen for its classes, JSON."""
        return self.path / "thresholds.json"

    @property
    def threshold_curves(self) -> Path:
        """The picture of the scores at all thresholds."""
        return self.path / "thresholds.png"

    @property
    def merge_thresholds(self) -> Path:
        """The thresholds that were chosen for its objects of affinities, JSON."""
        return self.path / "merge_thresholds.json"

    @property
    def merge_threshold_curves(self) -> Path:
        """The picture of their scores at all thresholds."""
        return self.path / "merge_thresholds.png"

    @property
    def facts(self) -> Path:
        """The facts of the run as part of an experiment, JSON."""
        return self.path / "facts.json"

    @property
    def picture(self) -> Path:
        """The picture of prediction and annotation side by side."""
        return self.path / "prediction.png"

    def training(self) -> AbstractContextManager[None]:
        """Return a context that holds the folder's lock, see :func:`.folder_lock`: one process at a time trains a run.

        Reading needs no lock.

        Raises:
            BlockingIOError: the run is being trained. The message says by which process, where and since when.
        """
        return folder_lock(self.path, "being trained")

    def begun(self) -> Config | None:
        """Return the config that the run was begun with; None if there is no run with a checkpoint.

        Raises:
            ConfigError: it cannot be read.
        """
        return Config.read(self.config) if self.config.exists() and self._holds_network() else None

    def check_config(self, config: Config) -> None:
        """Check that the run was begun with this config. Fields of :data:`MAY_CHANGE` and paths of data may differ.

        A run without a checkpoint begins anew, and may do so with any config.

        Raises:
            ConfigError: the configs differ. The message names every field that differs, and both values.
        """
        there = self.begun()
        if there is None:
            return
        begun, ours = (c.model_dump(mode="json", exclude={"learned_from"}) for c in (there, config))
        free = MAY_CHANGE if begun["validation"] else (*MAY_CHANGE, "evaluation.threshold")
        paths = [f"data.sources.{number}.{name}" for number in range(len(config.data.sources)) for name in _PATHS]
        if differences := list(describe_differences(begun, ours, (*free, *paths))):
            raise ConfigError(
                f"choose another folder than {self.path} for this config, as the run there has another one: "
                f"{'; '.join(differences)}. Of a run that is resumed, only {', '.join(free)} and the paths of the same "
                "data may change"
            )

    def check_volumes(self, config: Config) -> None:
        """Check that the run has learned from the volumes and labels of ``config.learned_from``.

        They may have been moved.

        Raises:
            ConfigError: it has learned from others; the message names the first of them.
        """
        there = self.begun()
        if there is None:
            return
        before, now = there.learned_from, config.learned_from
        if before and len(before) != len(now):
            raise ConfigError(
                f"{self.path} holds a run that has learned from {len(before)} volumes, and now there are {len(now)}; "
                "choose another folder for the run"
            )
        cure = (
            "Give the run its own data, wherever they have been moved to, or choose another folder for the run; "
            "training.start_from begins with its weights"
        )
        for one, other in zip(before, now, strict=False):
            if differences := one.differences(other):
                raise ConfigError(
                    f"{self.path} holds a run that has learned from {one.raw}, and the data now are {other.raw}: "
                    f"{'; '.join(differences)}. {cure}"
                )
            if None not in (one.labels, other.labels) and one.labels != other.labels:
                raise ConfigError(
                    f"{self.path} holds a run that has learned from other labels of {other.raw}: their shape, place, "
                    f"number or voxels differ. {cure}"
                )

    def _holds_network(self) -> bool:
        return self.best.exists() or any(self.checkpoints.glob("*.safetensors"))


def describe_differences(there: Any, here: Any, free: Collection[str] = (), field: str = "") -> Iterator[str]:
    """Yield ``field: value there, value here`` for every difference of two plain values.

    Args:
        there: plain settings.
        here: others.
        free: dotted names of fields that may differ, with all below them.
        field: dotted name of the field that has the two as its values; nothing for the whole.

    Example:
        >>> list(describe_differences({"seed": 1, "log": {}}, {"seed": 2, "log": {}}))
        ['seed: 1 there, 2 here']
    """
    if there == here or field in free:
        return
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for name in {**there, **here}:
            below = f"{field}.{name}".lstrip(".")
            yield from describe_differences(there.get(name, _ABSENT), here.get(name, _ABSENT), free, below)
    elif _alike(there, here):
        for number, (one, other) in enumerate(zip(there, here, strict=True)):
            yield from describe_differences(one, other, free, f"{field}.{number}")
    else:
        yield f"{field}: {_shown(there)} there, {_shown(here)} here"


def _alike(there: Any, here: Any) -> bool:
    """Return whether two lists are compared entry by entry: lists of as many mappings. Others are one value each."""
    if not (isinstance(there, list) and isinstance(here, list)) or len(there) != len(here):
        return False
    return all(isinstance(entry, Mapping) for entry in there + here)


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        return f"{len(value)} entries"
    return shorten(json.dumps(value, ensure_ascii=False), 100, placeholder=" ...")
