"""gunpowder nodes that read, vary, learn, predict and write arrays of several voxel sizes at once."""

if __name__ != "scalenet_gp.nodes":
    raise ImportError(f"import scalenet_gp.nodes, not {__name__}: this folder is a subpackage of scalenet_gp")

from scalenet_gp.nodes.class_targets import ClassTargets
from scalenet_gp.nodes.deform_augment import DeformAugment
from scalenet_gp.nodes.intensity_augment import IntensityAugment
from scalenet_gp.nodes.multiscale import Multiscale
from scalenet_gp.nodes.multiscale_source import MultiscaleSource
from scalenet_gp.nodes.multiscale_writer import MultiscaleWriter
from scalenet_gp.nodes.ome_zarr_write import OmeZarrWrite
from scalenet_gp.nodes.predict import Predict
from scalenet_gp.nodes.torch_adapter import GunpowderModel
from scalenet_gp.nodes.train import Supervision, Train
from scalenet_gp.nodes.training_log import TrainingLog

__all__ = [
    "ClassTargets",
    "DeformAugment",
    "GunpowderModel",
    "IntensityAugment",
    "Multiscale",
    "MultiscaleSource",
    "MultiscaleWriter",
    "OmeZarrWrite",
    "Predict",
    "Supervision",
    "Train",
    "TrainingLog",
]
