"""The chain of nodes that draws samples, from a config."""

from __future__ import annotations

from collections.abc import Mapping

import gunpowder as gp

from scalenet_gp.errors import ConfigError
from scalenet_gp.layers import Head
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
    net = dataset.net
    _check_channels(config, dataset)
    arrays = dataset.arrays
    raw, targets, masks = arrays.raw, arrays.targets, arrays.masks
    chain = (
        dataset.source(raw),
        dataset.targets(targets, masks, dataset.roi(config.training.region)),
    ) + gp.MergeProvider()
    labels = (*targets.values(), *masks.values())
    for node in build_augmentation(config.augmentation, dataset, tuple(raw.values()), labels, replay):
        chain += node
    # behind all that asks for more than it delivers: what is placed is the target as it is delivered
    finest = targets[net.output_keys[-1]]
    chain += SampleLocation(finest, build_sampler(config, dataset), replay=(replay or {}).get("location"))
    return dataset.scaled(chain, raw)


def _check_channels(config: Config, dataset: Dataset) -> None:
    """Refuse a network with an output that cannot learn the classes, one channel for each."""
    classes = config.data.class_names
    for node in dataset.net.nodes.values():
        if isinstance(node, Head) and node.classes != classes:
            raise ConfigError(
                f"the network's head {node.identifier!r} makes the classes {', '.join(node.classes)}, and "
                f"training.targets of the kind classes has {', '.join(classes)}: give network.heads the classes of "
                "data.classes, in their order"
            )
    for name in dataset.net.output_keys:
        channels = dataset.net.specs[name].channels
        if channels != len(classes):
            raise ConfigError(
                f"the network's output {name!r} has {channels} channels, and training.targets of the kind classes has "
                f"{len(classes)}, {', '.join(classes)}: leave out output_nc and heads of other classes"
            )
