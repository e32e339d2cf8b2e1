"""Processor craft: memory format, fast convolutions, activation checkpointing, devices."""

from scalenet_gp.kernels.activation_checkpointing import run_checkpointed
from scalenet_gp.kernels.device import choose_device, keep_freed_memory, set_deterministic_mkl
from scalenet_gp.kernels.group_norm import GroupNorm, GroupNormGuard, most_groups
from scalenet_gp.kernels.joined_convolution import accepts_unfused_inputs, convolve_joined, join_parts
from scalenet_gp.kernels.numba_cache import numba_jit
from scalenet_gp.kernels.onednn_convolutions import OneDnnConvolutions, are_handed_over
from scalenet_gp.kernels.recast import recast_convolutions
from scalenet_gp.kernels.tensors import UpsampledView, channels_last, crop_tensor

__all__ = [
    "GroupNorm",
    "GroupNormGuard",
    "OneDnnConvolutions",
    "UpsampledView",
    "accepts_unfused_inputs",
    "are_handed_over",
    "channels_last",
    "choose_device",
    "convolve_joined",
    "crop_tensor",
    "join_parts",
    "keep_freed_memory",
    "most_groups",
    "numba_jit",
    "recast_convolutions",
    "run_checkpointed",
    "set_deterministic_mkl",
]
