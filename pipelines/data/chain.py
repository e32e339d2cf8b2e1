"""The chain of nodes that draws samples, from a config."""

from __future__ import annotations

from collections.abc import Mapping

import gunpowder as gp

from scalenet_gp.nodes import SampleLocation
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data.augmentation import build_augmentation
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.sampling import build_sampler

__all__ = ["sample_chain"]


def sample_chain(config: Config, dataset: Dataset, replay: Mapping[str, str] | None = None) -> gp.Pipeline:
    """Return the chain that draws samples: ``RAW_...`` for inputs, ``TARGET_...`` and ``MASK_...`` for outputs.

    Args:
        config: the run.
        dataset: the volume to draw from.
        replay: records of an earlier sample, by their names in ``array.attrs``. The nodes that made them apply them
            again instead of drawing.

    Raises:
        ConfigError: the config does not fit the volume.
    """
    raw = dataset.arrays.raw
    sources = dataset.target_sources(dataset.roi(config.training.region))
    chain = (dataset.source(raw), *sources) + gp.MergeProvider()
    labels = dataset.target_chain.label_keys()
    for node in build_augmentation(config.augmentation, dataset, tuple(raw.values()), labels, replay):
        chain += node
    for node in dataset.target_nodes():
        chain += node
    # behind all that asks for more than it delivers: what is placed is the target as it is delivered
    finest = dataset.arrays.targets[dataset.finest]
    chain += SampleLocation(finest, build_sampler(config, dataset), replay=(replay or {}).get("location"))
    return dataset.scaled(chain, raw)
