"""gunpowder nodes that read, vary, learn, predict and write arrays of several voxel sizes at once."""

if __name__ != "scalenet_gp.nodes":
    raise ImportError(f"import scalenet_gp.nodes, not {__name__}: this folder is a subpackage of scalenet_gp")

from scalenet_gp.nodes.affinities import Affinities
from scalenet_gp.nodes.blur_augment import BlurAugment
from scalenet_gp.nodes.boundary_distance import BoundaryDistance
from scalenet_gp.nodes.class_targets import ClassTargets
from scalenet_gp.nodes.class_volume import ClassVolume
from scalenet_gp.nodes.class_weights import ClassWeights
from scalenet_gp.nodes.deform_augment import DeformAugment
from scalenet_gp.nodes.intensity_augment import IntensityAugment
from scalenet_gp.nodes.misaligned_sections import MisalignedSections
from scalenet_gp.nodes.multiscale import Multiscale
from scalenet_gp.nodes.multiscale_source import MultiscaleSource
from scalenet_gp.nodes.multiscale_writer import MultiscaleWriter
from scalenet_gp.nodes.noise_augment import NoiseAugment
from scalenet_gp.nodes.ome_zarr_write import OmeZarrWrite
from scalenet_gp.nodes.places import Places, Uniform
from scalenet_gp.nodes.predict import Predict
from scalenet_gp.nodes.prefetch import Prefetch
from scalenet_gp.nodes.random_volume import RandomVolume
from scalenet_gp.nodes.sample_location import SampleLocation, tally
from scalenet_gp.nodes.section_augment import LowContrastSections, MissingSections
from scalenet_gp.nodes.shared_places import ByClass, ByStratum
from scalenet_gp.nodes.stack import Stack
from scalenet_gp.nodes.storage import ChunkCache
from scalenet_gp.nodes.torch_adapter import GunpowderModel
from scalenet_gp.nodes.train import Supervision, Train
from scalenet_gp.nodes.training_log import TrainingLog
from scalenet_gp.nodes.voxel_places import ByMask

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
    "Train",
    "TrainingLog",
    "Uniform",
    "tally",
]
