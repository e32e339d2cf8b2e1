"""The kinds of node that networks are composed of: one class in one file each."""

from scalenet_gp.kinds.concatenate import Concatenate
from scalenet_gp.kinds.conv_pass import ConvPass
from scalenet_gp.kinds.pool import Pool
from scalenet_gp.kinds.strided_conv import StridedConv
from scalenet_gp.kinds.transposed_conv import TransposedConv
from scalenet_gp.kinds.upsample import Upsample

__all__ = ["Concatenate", "ConvPass", "Pool", "StridedConv", "TransposedConv", "Upsample"]
