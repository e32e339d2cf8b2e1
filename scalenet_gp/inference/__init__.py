"""Inference beyond one pass: large boxes in slabs, tiles that overlap, symmetries and ensembles."""

from scalenet_gp.inference.block_predictor import BlockPredictor, block_thickness
from scalenet_gp.inference.ensemble import Compute, Ensemble, Product
from scalenet_gp.inference.intensity_window import IntensityWindow
from scalenet_gp.inference.member_weights import Weight
from scalenet_gp.inference.overlapping_tiles import OverlappingTiles, TileIndex
from scalenet_gp.inference.seam import Seam
from scalenet_gp.inference.slab_thickness import choose_slab_thickness, slabbed_memory
from scalenet_gp.inference.slabbed_inference import SlabbedInference
from scalenet_gp.inference.symmetries import Symmetry, SymmetryGroup, lattice_symmetries
from scalenet_gp.kernels import OneDnnConvolutions

__all__ = [
    "BlockPredictor",
    "Compute",
    "Ensemble",
    "IntensityWindow",
    "OneDnnConvolutions",
    "OverlappingTiles",
    "Product",
    "Seam",
    "SlabbedInference",
    "Symmetry",
    "SymmetryGroup",
    "TileIndex",
    "Weight",
    "block_thickness",
    "choose_slab_thickness",
    "lattice_symmetries",
    "slabbed_memory",
]
