"""Multi-scale networks for 3D electron microscopy, and the gunpowder nodes that feed them."""

from scalenet_gp._version import __version__
from scalenet_gp.geometry import World
from scalenet_gp.graph import Node, Plan, TensorSpec
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks import build_attentive_scalenet, build_autoencoder, build_scalenet, build_unet

__all__ = [
    "LeibNet",
    "Node",
    "Plan",
    "TensorSpec",
    "World",
    "__version__",
    "build_attentive_scalenet",
    "build_autoencoder",
    "build_scalenet",
    "build_unet",
]
