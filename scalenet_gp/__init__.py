"""Multi-scale networks for 3D electron microscopy, and the gunpowder nodes that feed them."""

from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks import build_attentive_scalenet, build_autoencoder, build_scalenet, build_unet
from scalenet_gp.node import Node, TensorSpec
from scalenet_gp.plan import Plan
from scalenet_gp.world import World

__all__ = [
    "LeibNet",
    "Node",
    "Plan",
    "TensorSpec",
    "World",
    "build_attentive_scalenet",
    "build_autoencoder",
    "build_scalenet",
    "build_unet",
]
