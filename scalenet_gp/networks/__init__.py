"""Networks composed of the node kinds."""

from scalenet_gp.networks.autoencoder import build_autoencoder
from scalenet_gp.networks.options import UNetOptions
from scalenet_gp.networks.scalenet import build_attentive_scalenet, build_scalenet
from scalenet_gp.networks.unet import build_unet

__all__ = ["UNetOptions", "build_attentive_scalenet", "build_autoencoder", "build_scalenet", "build_unet"]
