"""The files of the thresholds that were chosen for a run: of its classes, and of its objects of affinities."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import ValidationError

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Options, describe_problems
from scalenet_gp.serialization import atomic_write

__all__ = ["ChosenMergeThresholds", "ChosenThreshold", "ChosenThresholds", "MergeScores"]


_OTHER_OPTIONS = ("merge_threshold", "thresholds", "smallest", "graph")
"""Options of objects that do not change the fragments nor the scores between them."""


class ChosenThreshold(Options):
    """The threshold of a class.

    Attributes:
        threshold: probability from which on a voxel is of the class.
        dice: the Dice coefficient with it, where it was chosen.

    Example:
        >>> ChosenThreshold(threshold=0.4, dice=0.9).threshold
        0.4
    """

    threshold: float
    dice: float


class ChosenFile(Options):
    """Abstract: thresholds that were chosen by comparison with an annotation.

    Attributes:
        version: version of the file's format.
        region: the region in which they were chosen.
        networks: digests of the checkpoints that predicted it.
    """

    cure: ClassVar[str]

    version: Literal[1] = 1
    region: str
    networks: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return what is in a file; None if there is none.

        Raises:
            ConfigError: the file is damaged, or of another version.
        """
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_bytes())
            return cls.model_validate(content)
        except ValidationError as error:
            problems = "; ".join(describe_problems(error, cls, content, "the file"))
            raise ConfigError(
                f"{path} does not hold chosen thresholds: {problems}; remove it, and choose again"
            ) from None
        except ValueError as error:
            raise ConfigError(f"{path} is not readable: {error}; remove it, and choose again") from error

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside:
            beside.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def check_networks(self, networks: Sequence[str]) -> None:
        """Check that the thresholds are of the networks that made a prediction.

        Raises:
            ConfigError: they are of others.
        """
        if tuple(networks) != self.networks:
            raise ConfigError(
                "the thresholds of the run were chosen for another network than the one that predicted: choose them "
                f"again, {self.cure}"
            )


class ChosenThresholds(ChosenFile):
    """The thresholds of classes, chosen by comparison with an annotation.

    Attributes:
        version: version of the file's format.
        region: the region in which they were chosen.
        networks: digests of the checkpoints that predicted it.
        outputs: the threshold of each class, for each output.

    Example:
        >>> chosen = {"1_output": {"mito": ChosenThreshold(threshold=0.4, dice=0.9)}}
        >>> ChosenThresholds(region="all", networks=(), outputs=chosen).of("1_output")
        {'mito': 0.4}
    """

    cure = "with evaluate --choose-thresholds, or remove thresholds.json in the run"

    outputs: dict[str, dict[str, ChosenThreshold]]

    def of(self, output: str) -> dict[str, float]:
        """Return the thresholds of the classes of an output; nothing for one of which none were chosen."""
        return {name: chosen.threshold for name, chosen in self.outputs.get(output, {}).items()}


class MergeScores(Options):
    """The scores of the objects of one threshold.

    Attributes:
        voi_split, voi_merge: variation of information, bits.
        adapted_rand_error: 1 - the F score of pairs of voxels.

    Example:
        >>> MergeScores(voi_split=0.5, voi_merge=0.25, adapted_rand_error=0.1).voi_merge
        0.25
    """

    voi_split: float
    voi_merge: float
    adapted_rand_error: float


class ChosenMergeThresholds(ChosenFile):
    """The thresholds up to which fragments are joined, chosen by comparison with an annotation.

    Attributes:
        version: version of the file's format.
        region: the region in which they were chosen.
        networks: digests of the checkpoints that predicted it.
        objects: the threshold of each kind of objects.
        methods: the options that the objects were found with, without those that other thresholds leave alone.
        scores: the scores at all thresholds, for each kind of objects.

    Example:
        >>> chosen = {"objects": {"neurons": 0.4}, "methods": {"neurons": {"kind": "mutex"}}, "scores": {}}
        >>> ChosenMergeThresholds(region="all", networks=(), **chosen).objects
        {'neurons': 0.4}
    """

    cure = "with evaluate --segmentation --choose-thresholds, or remove merge_thresholds.json in the run"

    objects: dict[str, float]
    methods: dict[str, dict[str, Any]]
    scores: dict[str, dict[str, MergeScores]]

    @staticmethod
    def method(options: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of an object's options, as plain values, that decide what a merge threshold means."""
        return {name: value for name, value in options.items() if name not in _OTHER_OPTIONS}

    def check_method(self, name: str, options: Mapping[str, Any]) -> None:
        """Check that a threshold was chosen for the method that it is taken for.

        Args:
            name: name of the objects.
            options: their options, as plain values.

        Raises:
            ConfigError: it was chosen for another one.
        """
        here, there = self.method(options), self.methods.get(name, {})
        differ = [
            f"{field} {there.get(field)} and {here.get(field)}"
            for field in sorted(here | there)
            if here.get(field) != there.get(field)
        ]
        if differ:
            raise ConfigError(
                f"the merge threshold of {name} was chosen for objects of another method, there and here: "
                f"{'; '.join(differ)}. Write segmentation.objects.{name}.merge_threshold, or choose again, {self.cure}"
            )
