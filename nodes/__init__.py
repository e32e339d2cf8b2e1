"""gunpowder nodes that read, vary, learn, predict and write arrays of several voxel sizes at once."""

if __name__ != "scalenet_gp.nodes":
    raise ImportError(f"import scalenet_gp.nodes, not {__name__}: this folder is a subpackage of scalenet_gp")

from scalenet_gp.nodes.augment.blur_augment import BlurAugment
from scalenet_gp.nodes.augment.deform_augment import DeformAugment
from scalenet_gp.nodes.augment.intensity_augment import IntensityAugment
from scalenet_gp.nodes.augment.misaligned_sections import MisalignedSections
from scalenet_gp.nodes.augment.noise_augment import NoiseAugment
from scalenet_gp.nodes.augment.section_augment import LowContrastSections, MissingSections
from scalenet_gp.nodes.batches.prefetch import Prefetch
from scalenet_gp.nodes.batches.stack import Stack
from scalenet_gp.nodes.learning.predict import Predict
from scalenet_gp.nodes.learning.supervision import Supervision
from scalenet_gp.nodes.learning.torch_adapter import GunpowderModel
from scalenet_gp.nodes.learning.train import Train
from scalenet_gp.nodes.learning.training_log import TrainingLog
from scalenet_gp.nodes.multiscale_source import MultiscaleSource
from scalenet_gp.nodes.ome_zarr_write import OmeZarrWrite
from scalenet_gp.nodes.places.places import Places, Uniform
from scalenet_gp.nodes.places.random_volume import RandomVolume
from scalenet_gp.nodes.places.sample_location import SampleLocation, tally
from scalenet_gp.nodes.places.shared_places import ByClass, ByStratum
from scalenet_gp.nodes.places.voxel_places import ByMask
from scalenet_gp.nodes.targets.affinities import Affinities
from scalenet_gp.nodes.targets.boundary_distance import BoundaryDistance
from scalenet_gp.nodes.targets.class_targets import ClassTargets
from scalenet_gp.nodes.targets.class_volume import ClassVolume
from scalenet_gp.nodes.targets.class_weights import ClassWeights
from scalenet_gp.nodes.tissue.options import TextureOptions
from scalenet_gp.nodes.tissue.texture import em_texture_masking
from scalenet_gp.nodes.volumes.multiscale import Multiscale
from scalenet_gp.nodes.volumes.multiscale_writer import MultiscaleWriter
from scalenet_gp.nodes.volumes.storage import ChunkCache

__all__ = [
    "Affinities",
    "BlurAugment",
    "BoundaryDistance",
    "ByClass",
    "ByMask",
    "ByStratum",
    "ChunkCache",
    "ClassTargets",
    "ClassVolume",
    "ClassWeights",
    "DeformAugment",
    "GunpowderModel",
    "IntensityAugment",
    "LowContrastSections",
    "MisalignedSections",
    "MissingSections",
    "Multiscale",
    "MultiscaleSource",
    "MultiscaleWriter",
    "NoiseAugment",
    "OmeZarrWrite",
    "Places",
    "Predict",
    "Prefetch",
    "RandomVolume",
    "SampleLocation",
    "Stack",
    "Supervision",
    "TextureOptions",
    "Train",
    "TrainingLog",
    "Uniform",
    "em_texture_masking",
    "tally",
]
