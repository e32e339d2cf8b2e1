"""What a network predicts, beyond one pass: large boxes in slabs, symmetries and ensembles."""

from scalenet_gp.inference.block_predictor import BlockPredictor, block_thickness
from scalenet_gp.inference.ensemble import Compute, Ensemble
from scalenet_gp.inference.intensities import Intensities
from scalenet_gp.inference.slab_choice import slab_thickness, sweep_memory
from scalenet_gp.inference.sweep import Sweep
from scalenet_gp.inference.symmetries import Symmetry, lattice_symmetries
from scalenet_gp.onednn_convolutions import OneDnnConvolutions

__all__ = [
    "BlockPredictor",
    "Compute",
    "Ensemble",
    "Intensities",
    "OneDnnConvolutions",
    "Sweep",
    "Symmetry",
    "block_thickness",
    "lattice_symmetries",
    "slab_thickness",
    "sweep_memory",
]
