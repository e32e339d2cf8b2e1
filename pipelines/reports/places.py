"""Predictions beside the annotation, place by place: scores of each, and whether probabilities are what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalenet_gp.metrics import ConfusionCounts, mean_scores
from scalenet_gp.pipelines.config import ClassTargetsOptions, Region
from scalenet_gp.pipelines.data import Dataset, choose_source, resolve_sources, sources_of
from scalenet_gp.pipelines.evaluation import compared_blocks, evaluation_roi
from scalenet_gp.pipelines.reports.found_runs import FoundRun

__all__ = ["BINS", "Examination", "Place", "Reliability", "examine"]

BINS = 10
"""Intervals of probability, of equal width."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """The share of a class among voxels, by the probability that was predicted there.

    Attributes:
        count: annotated voxels, by interval of probability.
        probability: the sum of their probabilities.
        present: those of them that are of the class.

    Example:
        >>> found = Reliability.count_voxels(np.array([0.95, 0.95, 0.05]), np.array([True, False, False]))
        >>> round(found.expected_error, 3)
        0.317
    """

    count: np.ndarray
    probability: np.ndarray
    present: np.ndarray

    @classmethod
    def count_voxels(cls, probability: np.ndarray, present: np.ndarray) -> Reliability:
        """Return the counts of voxels: the probability of each, and whether it is of the class."""
        index = np.clip((probability.astype(np.float64) * BINS).astype(np.int64), 0, BINS - 1).ravel()
        count = np.bincount(index, minlength=BINS)
        sums = np.bincount(index, probability.ravel().astype(np.float64), BINS)
        return cls(count, sums, np.bincount(index, present.ravel(), BINS))

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.count + other.count, self.probability + other.probability, self.present + other.present)

    @property
    def expected_error(self) -> float:
        """The expected calibration error: the mean over voxels of how far an interval's share is from its probability.

        Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI
        (2015). NaN without voxels.
        """
        whole = self.count.sum()
        return float(np.abs(self.present - self.probability).sum() / whole) if whole else math.nan


@dataclass(frozen=True, slots=True)
class Place:
    """A block of the prediction.

    Attributes:
        source: name of the source.
        region: the block, from the corner of the raw volume.
        counts: confusion counts of each class.
    """

    source: str
    region: Region
    counts: Mapping[str, ConfusionCounts]

    @property
    def key(self) -> tuple[str, str]:
        """The same for the same block of another run."""
        return self.source, str(self.region)

    @property
    def dice(self) -> float:
        """The mean Dice coefficient over the classes that occur, in the annotation or in the prediction."""
        return mean_scores(self.counts)["dice"]


@dataclass(frozen=True, slots=True)
class Examination:
    """The comparison of one run's prediction with the annotation, at its finest output.

    Attributes:
        reliability: of each class.
        places: the blocks in which something is annotated.
    """

    reliability: Mapping[str, Reliability]
    places: Sequence[Place]


def examine(run: FoundRun) -> Examination | None:
    """Return the comparison of a run's prediction with the annotation; None for an output that has no classes.

    Args:
        run: the run; its prediction and its data have to be there.

    Raises:
        FileNotFoundError: the prediction or the data are not there.
        ConfigError: they do not fit each other.
    """
    config, volume = run.config, run.config.data.folder or ""
    net = config.build_network()
    reliability: dict[str, Reliability] = {}
    places = []
    sources = sources_of(config, resolve_sources(config.data, volume), "evaluate")
    for source in sources:
        dataset = Dataset.open(volume, config, net, choose_source(config.data, volume, source.name))
        options = dataset.targets[run.output]
        if not isinstance(options, ClassTargetsOptions):
            return None
        path = run.folder.prediction
        path = path / source.name.replace("/", "_") if len(sources) > 1 else path
        names = dataset.scored[run.output]
        for tile, blocks in compared_blocks(dataset, path, evaluation_roi(config, dataset), [run.output]):
            values, target, mask = blocks[run.output]
            decided = options.as_classes(values, target, mask)
            counts = {}
            for index, name in enumerate(names):
                at = index + options.exclusive  # the background is the first channel
                known = mask[at] > 0
                found = Reliability.count_voxels(values[at][known], target[at][known] > 0)
                reliability[name] = reliability[name] + found if name in reliability else found
                predicted, true, annotated = (array[index] for array in decided)
                counts[name] = ConfusionCounts.count(predicted >= config.evaluation.threshold, true > 0, annotated > 0)
            if (mask > 0).any():
                places.append(Place(source.name, dataset.region(tile), counts))
    return Examination(reliability, places)
