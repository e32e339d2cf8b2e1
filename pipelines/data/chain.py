"""The chains of nodes that draw samples, from a config."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import gunpowder as gp

from scalenet_gp.nodes import LazyRandomVolume, SampleLocation
from scalenet_gp.pipelines.config import Config, SamplerOptions
from scalenet_gp.pipelines.data.augmentation import build_augmentation
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.datasets import Datasets
from scalenet_gp.pipelines.data.sampling import build_sampler
from scalenet_gp.pipelines.data.weights import SourceWeight, source_weights

__all__ = ["draw_from_sources", "sample_chain", "training_chain"]


def training_chain(datasets: Datasets, replay: Mapping[str, str] | None = None) -> gp.Pipeline:
    """Return the chain that draws samples from all sources to train on: see :func:`sample_chain`.

    Args:
        datasets: the sources.
        replay: records of an earlier sample, by their names in ``array.attrs``; it is taken from the same source.

    Raises:
        ConfigError: the config does not fit a source.
    """
    weights = source_weights(datasets)
    open_branch = _TrainingBranch(datasets, weights, replay)
    of_each = {name: entry.weight for name, entry in weights.items()}
    return draw_from_sources(of_each, open_branch, None if replay is None else replay["location"])


def draw_from_sources(
    weights: Mapping[str, float], open_branch: Callable[[str], gp.Pipeline], replay: str | None = None
) -> gp.Pipeline:
    """Return the chain that draws each sample from one of several sources; of a single one, its own chain.

    Args:
        weights: the weight of each source, by its name.
        open_branch: returns the chain that draws samples from a source.
        replay: the location of an earlier sample, which names its source.
    """
    if len(weights) == 1:
        return open_branch(next(iter(weights)))
    if replay is not None:
        return open_branch(json.loads(replay)["volume"])
    return gp.Pipeline(LazyRandomVolume(weights, open_branch))


@dataclass(frozen=True)
class _TrainingBranch:
    """Opens the chain of a source; worker processes get it by pickle."""

    datasets: Datasets
    weights: Mapping[str, SourceWeight]
    replay: Mapping[str, str] | None

    def __call__(self, name: str) -> gp.Pipeline:
        datasets = self.datasets
        source = datasets.named(name)
        dataset = datasets.first if source is datasets.of("train")[0] else datasets.open(source)
        return sample_chain(datasets.config, dataset, self.replay, self.weights[name].sampler)


def sample_chain(
    config: Config,
    dataset: Dataset,
    replay: Mapping[str, str] | None = None,
    sampler: SamplerOptions | None = None,
) -> gp.Pipeline:
    """Return the chain that draws samples of a source.

    It provides ``RAW_...`` for inputs, of raw data or not, ``TARGET_...`` and ``MASK_...`` for outputs.

    Args:
        config: the run.
        dataset: the volume to draw from.
        replay: records of an earlier sample, by their names in ``array.attrs``. The nodes that made them apply them
            again instead of drawing.
        sampler: where samples are taken; as ``training.sampler`` says unless given.

    Raises:
        ConfigError: the config does not fit the volume.
    """
    arrays, seen = dataset.arrays, dataset.inputs.all(dataset.arrays.inputs)
    sources = dataset.target_sources(dataset.roi(dataset.training_region))
    chain = (*(volume.fractions() for volume in seen), *sources) + gp.MergeProvider()
    raw = [arrays.inputs[name] for name in dataset.inputs.raw_keys]
    # predictions move with labels, and keep their values
    moved = [arrays.inputs[name] for name in dataset.inputs.names]
    labels = (*moved, *dataset.target_chain.label_keys())
    for node in build_augmentation(config.augmentation, dataset, raw, labels, replay):
        chain += node
    for node in dataset.target_nodes():
        chain += node
    # behind all that asks for more than it delivers: what is placed is the target as it is delivered
    finest = arrays.targets[dataset.finest]
    chain += SampleLocation(finest, build_sampler(dataset, sampler), replay=(replay or {}).get("location"))
    for volume in seen:
        chain = volume.scaled(chain)
    return chain
