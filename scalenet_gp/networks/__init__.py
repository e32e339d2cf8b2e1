"""Networks composed of the node kinds, and their options."""

from scalenet_gp.networks.autoencoder import AutoencoderOptions, build_autoencoder
from scalenet_gp.networks.kinds import NetworkKind, OutputForm
from scalenet_gp.networks.options import SubnetOptions, UNetOptions
from scalenet_gp.networks.scalenet import build_attentive_scalenet, build_scalenet
from scalenet_gp.networks.unet import build_unet

__all__ = [
    "AutoencoderOptions",
    "NetworkKind",
    "OutputForm",
    "SubnetOptions",
    "UNetOptions",
    "build_attentive_scalenet",
    "build_autoencoder",
    "build_scalenet",
    "build_unet",
]
