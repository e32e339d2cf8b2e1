"""Random augmentation that keeps several voxel sizes in step."""

from scalenet_gp.nodes.augment.blur_augment import Blur, BlurAugment
from scalenet_gp.nodes.augment.deform_augment import DeformAugment
from scalenet_gp.nodes.augment.deformation import Deformation
from scalenet_gp.nodes.augment.intensity_augment import Intensity, IntensityAugment
from scalenet_gp.nodes.augment.misaligned_sections import MisalignedSections, Misalignment
from scalenet_gp.nodes.augment.noise_augment import Noise, NoiseAugment
from scalenet_gp.nodes.augment.section_augment import LowContrast, LowContrastSections, Missing, MissingSections

__all__ = [
    "Blur",
    "BlurAugment",
    "DeformAugment",
    "Deformation",
    "Intensity",
    "IntensityAugment",
    "LowContrast",
    "LowContrastSections",
    "MisalignedSections",
    "Misalignment",
    "Missing",
    "MissingSections",
    "Noise",
    "NoiseAugment",
]
