"""The augmentation nodes of a chain, from a config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gunpowder as gp

from scalenet_gp.errors import ConfigError
from scalenet_gp.nodes.augment import Augment, Augmentation, DeformAugment
from scalenet_gp.pipelines.data.dataset import Dataset

__all__ = ["build_augmentation"]


def build_augmentation(
    augmentation: Sequence[Augmentation],
    dataset: Dataset,
    raw: Sequence[gp.ArrayKey],
    labels: Sequence[gp.ArrayKey],
    records: Mapping[str, str] | None = None,
) -> Iterator[Augment]:
    """Yield the augmentation nodes in their order, from upstream to downstream.

    The first node turns raw data into fractions of its type's range and places samples to the voxel of the finest
    array, whether or not it deforms anything.

    Args:
        augmentation: the options of the nodes.
        dataset: the dataset whose world lengths are converted to.
        raw: the intensity arrays.
        labels: labels and masks, and predictions that are read beside raw data.
        records: of an earlier sample, by their names in ``array.attrs``, to be applied again instead of a draw. A node
            without a record changes nothing then.

    Raises:
        LatticeError: a length is not a whole number of world units.
        ConfigError: a node changes raw data, and there are none.
    """
    nodes = Counter[str]()

    def replay(node: type[Augment]) -> dict[str, Any]:
        nodes[node.record_name] += 1
        number = nodes[node.record_name]
        name = node.record_name if number == 1 else f"{node.record_name}_{number}"
        if records is None:
            return {}
        return {"replay": records[name]} if name in records else {"p": 0.0}

    if not augmentation or augmentation[0].component() is not DeformAugment:
        still = (0.0,) * dataset.net.dims
        yield DeformAugment(dataset.lattice(), still, normalize=True, **replay(DeformAugment))
    corner = dataset.corner
    for number, options in enumerate(augmentation):
        where = f"augmentation.{number}"
        if not raw and not options.component().moves_content:
            raise ConfigError(f"{where} changes raw data, and the network reads none: leave it out")
        yield options.build(dataset.world, raw, labels, where=where, corner=corner, **replay(options.component()))
