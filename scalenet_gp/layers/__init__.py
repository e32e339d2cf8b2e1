"""The kinds of node that networks are composed of: one class in one file each."""

from scalenet_gp.layers.atrous_pyramid import AtrousPyramid
from scalenet_gp.layers.attention_gate import AttentionGate
from scalenet_gp.layers.checks import check_whole, is_whole
from scalenet_gp.layers.concatenate import Concatenate
from scalenet_gp.layers.conv_pass import ConvPass
from scalenet_gp.layers.gated_sum import GatedSum
from scalenet_gp.layers.head import Head
from scalenet_gp.layers.layers import activation_layer
from scalenet_gp.layers.module_node import ModuleNode
from scalenet_gp.layers.pool import Pool
from scalenet_gp.layers.scale_attention import ScaleAttention
from scalenet_gp.layers.strided_conv import StridedConv
from scalenet_gp.layers.sum import Sum
from scalenet_gp.layers.transformer_block import TransformerBlock
from scalenet_gp.layers.transposed_conv import TransposedConv
from scalenet_gp.layers.upsample import Upsample
from scalenet_gp.layers.variational_bottleneck import VariationalBottleneck

__all__ = [
    "AtrousPyramid",
    "AttentionGate",
    "Concatenate",
    "ConvPass",
    "GatedSum",
    "Head",
    "ModuleNode",
    "Pool",
    "ScaleAttention",
    "StridedConv",
    "Sum",
    "TransformerBlock",
    "TransposedConv",
    "Upsample",
    "VariationalBottleneck",
    "activation_layer",
    "check_whole",
    "is_whole",
]
