"""Scores of a network, added up block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scalenet_gp.metrics import GroupCounts, GroupScores, Scores, empty_scores, update_scores
from scalenet_gp.pipelines.data import Dataset
from scalenet_gp.pipelines.evaluation.groups import group_channels

__all__ = ["ScoreSums"]


class ScoreSums:
    """Adds up the scores of blocks, of validation and evaluation alike.

    Args:
        dataset: the volume, with the targets of every output.
        groups: groups of exclusive classes, by name.
        threshold: the probability from which a voxel counts as the class.
        chosen: thresholds of classes, by output, that count instead.

    Attributes:
        scores: the confusion counts of each class, for each output.
        voxels: the voxels of each group, for each output that has all of its classes.
        channels: the channels of each group's classes, for each of these outputs.
        thresholds: the probability from which a voxel counts as a class, by output and class.

    Raises:
        ConfigError: no output has all classes of a group.
    """

    def __init__(
        self,
        dataset: Dataset,
        groups: Mapping[str, Sequence[str]],
        threshold: float,
        chosen: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.channels = group_channels(groups, dataset.channels)
        self.scores: Scores = empty_scores(dataset.scored)
        self.voxels: GroupScores = {
            output: {name: GroupCounts.zero(groups[name]) for name in names} for output, names in self.channels.items()
        }
        self._targets = dataset.targets
        self.thresholds = {
            output: dict.fromkeys(names, threshold) | dict((chosen or {}).get(output, {}))
            for output, names in dataset.scored.items()
        }

    def add(self, output: str, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray) -> None:
        """Add a block of an output; each array is (channel, Z, Y, X)."""
        scored = self._targets[output].as_classes(prediction, target, mask)
        update_scores(self.scores, output, *scored, self.thresholds[output])
        for name, channels in self.channels.get(output, {}).items():
            counts = self.voxels[output][name]
            arrays = prediction[channels], target[channels], mask[channels]
            self.voxels[output][name] = counts + GroupCounts.of_voxels(counts.classes, *arrays)
