"""Networks composed of the node kinds, and their options."""

from scalenet_gp.networks.autoencoder import AutoencoderOptions, build_autoencoder
from scalenet_gp.networks.catalog import network_arguments, network_kinds
from scalenet_gp.networks.deeplab import DeepLabOptions, build_deeplab
from scalenet_gp.networks.forms import OutputForm
from scalenet_gp.networks.fpn import FPNOptions, build_fpn
from scalenet_gp.networks.hrnet import HRNetOptions, build_hrnet
from scalenet_gp.networks.kinds import NetworkKind
from scalenet_gp.networks.multimodal_unet import MultimodalUNetOptions, build_multimodal_unet
from scalenet_gp.networks.probabilistic_unet import ProbabilisticUNetOptions, build_probabilistic_unet
from scalenet_gp.networks.residual_encoder import ResidualEncoderOptions, build_residual_encoder_unet
from scalenet_gp.networks.scalenet import build_attentive_scalenet, build_scalenet
from scalenet_gp.networks.several_scales import CascadeOptions, EnsembleOptions, build_cascade, build_ensemble
from scalenet_gp.networks.unet import build_unet
from scalenet_gp.networks.unet_3_plus import UNet3PlusOptions, build_unet_3_plus
from scalenet_gp.networks.unet_options import ScaleOptions, SubnetOptions, UNetOptions
from scalenet_gp.networks.unet_plus_plus import UNetPlusPlusOptions, build_unet_plus_plus
from scalenet_gp.networks.unet_variants import (
    AttentionUNetOptions,
    ConvNeXtUNetOptions,
    HybridUNetOptions,
    MobileUNetOptions,
    TransUNetOptions,
    build_attention_unet,
    build_convnext_unet,
    build_hybrid_unet,
    build_mobile_unet,
    build_transunet,
)

__all__ = [
    "AttentionUNetOptions",
    "AutoencoderOptions",
    "CascadeOptions",
    "ConvNeXtUNetOptions",
    "DeepLabOptions",
    "EnsembleOptions",
    "FPNOptions",
    "HRNetOptions",
    "HybridUNetOptions",
    "MobileUNetOptions",
    "MultimodalUNetOptions",
    "NetworkKind",
    "OutputForm",
    "ProbabilisticUNetOptions",
    "ResidualEncoderOptions",
    "ScaleOptions",
    "SubnetOptions",
    "TransUNetOptions",
    "UNet3PlusOptions",
    "UNetOptions",
    "UNetPlusPlusOptions",
    "build_attention_unet",
    "build_attentive_scalenet",
    "build_autoencoder",
    "build_cascade",
    "build_convnext_unet",
    "build_deeplab",
    "build_ensemble",
    "build_fpn",
    "build_hrnet",
    "build_hybrid_unet",
    "build_mobile_unet",
    "build_multimodal_unet",
    "build_probabilistic_unet",
    "build_residual_encoder_unet",
    "build_scalenet",
    "build_transunet",
    "build_unet",
    "build_unet_3_plus",
    "build_unet_plus_plus",
    "network_arguments",
    "network_kinds",
]
