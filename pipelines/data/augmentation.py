"""The augmentation nodes of a chain, from a config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Any

import gunpowder as gp
from pydantic import TypeAdapter

from scalenet_gp.nodes.augment import Augment, Augmentation, DeformAugment
from scalenet_gp.pipelines.config import AugmentationConfig
from scalenet_gp.pipelines.data.dataset import Dataset

__all__ = ["build_augmentation", "list_augmentations"]


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
        labels: labels and masks.
        records: of an earlier sample, by their names in ``array.attrs``, to be applied again instead of a draw. A node
            without a record changes nothing then.

    Raises:
        LatticeError: a length is not a whole number of world units.
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
    for number, options in enumerate(augmentation):
        where = f"augmentation.{number}"
        yield options.build(dataset.world, raw, labels, where=where, **replay(options.component()))


def list_augmentations(settings: AugmentationConfig | None) -> tuple[Augmentation, ...]:
    """Return the options of the nodes that a config asks for, those that change nothing left out."""
    if settings is None:
        return ()
    listed: list[dict[str, Any]] = [
        {
            "kind": "deform",
            "control_point_spacing": settings.control_point_spacing,
            "jitter_sigma": settings.jitter_sigma,
            "rotation_axes": settings.rotation_axes,
            "mirror_axes": settings.mirror_axes,
            "transpose_axes": settings.transpose_axes,
            "scale_interval": settings.scale_interval,
        }
    ]
    if (sections := settings.sections) is not None:
        thickness = sections.thickness
        if sections.slip or sections.shift:
            sigma = sections.displacement_sigma
            moved = {"thickness": thickness, "sigma": sigma, "slip": sections.slip, "shift": sections.shift}
            listed.append({"kind": "misaligned_sections", **moved})
        if sections.low_contrast:
            pale = {"thickness": thickness, "probability": sections.low_contrast, "factor": sections.contrast}
            listed.append({"kind": "low_contrast_sections", **pale})
        if sections.missing:
            listed.append({"kind": "missing_sections", "thickness": thickness, "probability": sections.missing})
    if settings.blur[1]:
        listed.append({"kind": "blur", "sigma": settings.blur})
    if (settings.contrast, settings.brightness, settings.gamma) != ((1, 1), (0, 0), (1, 1)):
        intensity = {"scale": settings.contrast, "shift": settings.brightness, "gamma": settings.gamma}
        listed.append({"kind": "intensity", **intensity})
    if settings.noise_variance:
        listed.append({"kind": "noise", "sigma": sqrt(settings.noise_variance)})
    return TypeAdapter(tuple[Augmentation, ...]).validate_python(listed)
