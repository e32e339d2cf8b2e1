"""The kinds of node that networks are composed of: one class in one file each."""

from scalenet_gp.kinds.atrous_pyramid import AtrousPyramid
from scalenet_gp.kinds.attention_gate import AttentionGate
from scalenet_gp.kinds.concatenate import Concatenate
from scalenet_gp.kinds.conv_pass import ConvPass
from scalenet_gp.kinds.gated_sum import GatedSum
from scalenet_gp.kinds.head import Head
from scalenet_gp.kinds.module_node import ModuleNode
from scalenet_gp.kinds.pool import Pool
from scalenet_gp.kinds.scale_attention import ScaleAttention
from scalenet_gp.kinds.strided_conv import StridedConv
from scalenet_gp.kinds.sum import Sum
from scalenet_gp.kinds.transformer_block import TransformerBlock
from scalenet_gp.kinds.transposed_conv import TransposedConv
from scalenet_gp.kinds.upsample import Upsample
from scalenet_gp.kinds.variational_bottleneck import VariationalBottleneck

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
]
