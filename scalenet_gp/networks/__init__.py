"""Networks composed of the node kinds."""

from scalenet_gp.networks.scalenet import build_scalenet
from scalenet_gp.networks.unet import build_unet

__all__ = ["build_scalenet", "build_unet"]
