"""gunpowder nodes that read, vary, learn, predict and write arrays of several voxel sizes at once."""

if __name__ != "scalenet_gp.nodes":
    raise ImportError(f"import scalenet_gp.nodes, not {__name__}: this folder is a subpackage of scalenet_gp")

from scalenet_gp.nodes.augment import (
    BlurAugment,
    DeformAugment,
    IntensityAugment,
    LowContrastSections,
    MisalignedSections,
    MissingSections,
    NoiseAugment,
)
from scalenet_gp.nodes.predict import GunpowderModel, Predict
from scalenet_gp.nodes.prefetch import Prefetch, Stack
from scalenet_gp.nodes.samplers import (
    ClassSampler,
    LazyRandomVolume,
    MaskSampler,
    PointSampler,
    RandomVolume,
    Reject,
    SampleLocation,
    Sampler,
    StratifiedSampler,
    UniformSampler,
    count_draws,
)
from scalenet_gp.nodes.sources import MultiscaleSource
from scalenet_gp.nodes.targets import (
    Affinities,
    BoundaryDistance,
    ClassTargets,
    ClassWeights,
    DistanceWeights,
    GrowBoundary,
    LocalShapeDescriptors,
    WeighMask,
)
from scalenet_gp.nodes.train import Supervision, Train
from scalenet_gp.nodes.write import OmeZarrWrite

__all__ = [
    "Affinities",
    "BlurAugment",
    "BoundaryDistance",
    "ClassSampler",
    "ClassTargets",
    "ClassWeights",
    "DeformAugment",
    "DistanceWeights",
    "GrowBoundary",
    "GunpowderModel",
    "IntensityAugment",
    "LazyRandomVolume",
    "LocalShapeDescriptors",
    "LowContrastSections",
    "MaskSampler",
    "MisalignedSections",
    "MissingSections",
    "MultiscaleSource",
    "NoiseAugment",
    "OmeZarrWrite",
    "PointSampler",
    "Predict",
    "Prefetch",
    "RandomVolume",
    "Reject",
    "SampleLocation",
    "Sampler",
    "Stack",
    "StratifiedSampler",
    "Supervision",
    "Train",
    "UniformSampler",
    "WeighMask",
    "count_draws",
]
