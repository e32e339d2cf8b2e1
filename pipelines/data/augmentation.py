"""What is varied at random, from a config."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import gunpowder as gp

from scalenet_gp.nodes import (
    BlurAugment,
    DeformAugment,
    IntensityAugment,
    LowContrastSections,
    MisalignedSections,
    MissingSections,
    NoiseAugment,
)
from scalenet_gp.pipelines.config import AugmentationConfig, SectionsConfig
from scalenet_gp.pipelines.data.dataset import Dataset

__all__ = ["build_deform", "build_intensity_augments", "build_section_augments"]


def build_deform(settings: AugmentationConfig | None, dataset: Dataset, records: Mapping[str, str]) -> DeformAugment:
    """The node that deforms all arrays alike, and has raw data come as fractions of its type's range.

    Without settings it deforms nothing, but still places samples to the voxel of the finest array.

    Args:
        settings: what is varied.
        dataset: whose world lengths are converted to.
        records: of an earlier sample, to be applied again: see
            :func:`scalenet_gp.pipelines.training.train_job.sample_chain`.

    Raises:
        ValueError: the settings do not fit the dataset.
    """
    if settings is None:
        return DeformAugment(
            dataset.lattice(), (0,) * dataset.net.dims, normalize=True, replay=records.get("deformation")
        )
    return DeformAugment(
        dataset.world.size(settings.control_point_spacing, "augmentation.control_point_spacing"),
        [float(sigma / dataset.world.unit) for sigma in settings.jitter_sigma],
        rotation_axes=settings.rotation_axes,
        mirror_axes=settings.mirror_axes,
        transpose_axes=settings.transpose_axes,
        scale_interval=settings.scale_interval,
        normalize=True,
        replay=records.get("deformation"),
    )


def build_section_augments(
    settings: SectionsConfig,
    dataset: Dataset,
    raw: Iterable[gp.ArrayKey],
    labels: Iterable[gp.ArrayKey],
    records: Mapping[str, str],
) -> Iterator[gp.BatchFilter]:
    """The nodes that damage serial sections: those that the settings give a probability.

    Raises:
        ValueError: a length is no whole number of world units.
    """
    keys = tuple(raw)
    (thickness,) = dataset.world.size([settings.thickness], "augmentation.sections.thickness")
    if settings.slip or settings.shift:
        yield MisalignedSections(
            (*keys, *labels),
            thickness,
            float(settings.displacement_sigma / dataset.world.unit),
            slip=settings.slip,
            shift=settings.shift,
            replay=records.get("misaligned_sections"),
        )
    if settings.low_contrast:
        yield LowContrastSections(
            keys,
            thickness,
            settings.low_contrast,
            factor=settings.contrast,
            replay=records.get("low_contrast_sections"),
        )
    if settings.missing:
        yield MissingSections(keys, thickness, settings.missing, replay=records.get("missing_sections"))


def build_intensity_augments(
    settings: AugmentationConfig, dataset: Dataset, raw: Iterable[gp.ArrayKey], records: Mapping[str, str]
) -> Iterator[gp.BatchFilter]:
    """The nodes that vary intensities, those that change nothing left out."""
    keys = tuple(raw)
    if settings.blur[1]:
        low, high = (float(sigma) / float(dataset.world.unit) for sigma in settings.blur)
        yield BlurAugment(keys, (low, high), replay=records.get("blur"))
    if (settings.contrast, settings.brightness, settings.gamma) != ((1, 1), (0, 0), (1, 1)):
        yield IntensityAugment(
            keys,
            scale=settings.contrast,
            shift=settings.brightness,
            gamma=settings.gamma,
            replay=records.get("intensity"),
        )
    if settings.noise_variance:
        yield NoiseAugment(keys, math.sqrt(settings.noise_variance), replay=records.get("noise"))
