"""Augmentation nodes that keep several voxel sizes in step, and their options for a run file."""

from typing import TYPE_CHECKING

from scalenet_gp.nodes.augment.augment import Augment, AugmentOptions
from scalenet_gp.nodes.augment.blur_augment import BlurAugment, BlurOptions
from scalenet_gp.nodes.augment.deform_augment import DeformAugment, DeformOptions
from scalenet_gp.nodes.augment.deformation import Deformation
from scalenet_gp.nodes.augment.intensity_augment import IntensityAugment, IntensityOptions
from scalenet_gp.nodes.augment.misaligned_sections import MisalignedOptions, MisalignedSections
from scalenet_gp.nodes.augment.noise_augment import NoiseAugment, NoiseOptions
from scalenet_gp.nodes.augment.section_augment import (
    LowContrastOptions,
    LowContrastSections,
    MissingOptions,
    MissingSections,
)
from scalenet_gp.options import union_of

__all__ = [
    "AUGMENTATIONS",
    "Augment",
    "AugmentOptions",
    "Augmentation",
    "BlurAugment",
    "DeformAugment",
    "Deformation",
    "IntensityAugment",
    "LowContrastSections",
    "MisalignedSections",
    "MissingSections",
    "NoiseAugment",
]

AUGMENTATIONS: tuple[type[AugmentOptions], ...] = (
    DeformOptions,
    MisalignedOptions,
    LowContrastOptions,
    MissingOptions,
    BlurOptions,
    IntensityOptions,
    NoiseOptions,
)
"""The options of all augmentations that a run file can name, in the order in which records are described."""

if TYPE_CHECKING:
    Augmentation = AugmentOptions
else:
    Augmentation = union_of(AUGMENTATIONS)
    """One augmentation of a run file: any of :data:`AUGMENTATIONS`, told apart by ``kind``."""
