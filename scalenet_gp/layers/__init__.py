"""The kinds of node that networks are composed of, and the bases for own ones."""

from scalenet_gp.layers.atrous_pyramid import AtrousPyramid
from scalenet_gp.layers.attention_gate import AttentionGate
from scalenet_gp.layers.calibrated_group_norm import CalibratedGroupNorm
from scalenet_gp.layers.checks import check_whole, is_whole
from scalenet_gp.layers.conv_pass import ConvPass
from scalenet_gp.layers.dense_blocks import DenseBlock, RecurrentResiduals
from scalenet_gp.layers.downsampling import Pool, StridedConv
from scalenet_gp.layers.global_mean import GlobalMean
from scalenet_gp.layers.head import Head
from scalenet_gp.layers.joins import Concatenate, GatedSum, Join, Mean, ScaleAttention, Sum
from scalenet_gp.layers.latent_head import LatentHead
from scalenet_gp.layers.module_node import ModuleNode
from scalenet_gp.layers.modules import activation_layer
from scalenet_gp.layers.pooling_pyramid import PoolingPyramid
from scalenet_gp.layers.prototype_memory import PrototypeMemory
from scalenet_gp.layers.resampling import Downsampling, Upsampling
from scalenet_gp.layers.residual_blocks import ConvNeXtBlocks, InvertedResiduals
from scalenet_gp.layers.same_lattice import SameLattice
from scalenet_gp.layers.transformer_block import TransformerBlock
from scalenet_gp.layers.upsampling import TransposedConv, Upsample
from scalenet_gp.layers.variational_bottleneck import VariationalBottleneck

__all__ = [
    "AtrousPyramid",
    "AttentionGate",
    "CalibratedGroupNorm",
    "Concatenate",
    "ConvNeXtBlocks",
    "ConvPass",
    "DenseBlock",
    "Downsampling",
    "GatedSum",
    "GlobalMean",
    "Head",
    "InvertedResiduals",
    "Join",
    "LatentHead",
    "Mean",
    "ModuleNode",
    "Pool",
    "PoolingPyramid",
    "PrototypeMemory",
    "RecurrentResiduals",
    "SameLattice",
    "ScaleAttention",
    "StridedConv",
    "Sum",
    "TransformerBlock",
    "TransposedConv",
    "Upsample",
    "Upsampling",
    "VariationalBottleneck",
    "activation_layer",
    "check_whole",
    "is_whole",
]
