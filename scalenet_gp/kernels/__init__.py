"""Processor craft: memory format, fast convolutions, activation checkpointing, devices."""

from scalenet_gp.kernels.activation_checkpointing import run_checkpointed
from scalenet_gp.kernels.device import (
    choose_device,
    find_device,
    keep_freed_memory,
    return_freed_memory,
    set_deterministic_mkl,
)
from scalenet_gp.kernels.group_norm import GroupNorm, GroupNormGuard, most_groups
from scalenet_gp.kernels.joined_convolution import accepts_unfused_inputs, convolve_joined, join_parts
from scalenet_gp.kernels.memory_tracker import (
    BeyondLimitError,
    MemoryTracker,
    collect_garbage_by_hand,
    fake_copy,
    fake_tensors,
)
from scalenet_gp.kernels.numba_cache import numba_jit
from scalenet_gp.kernels.onednn_convolutions import OneDnnConvolutions
from scalenet_gp.kernels.private_torch import watch_operations
from scalenet_gp.kernels.recast import recast_convolutions
from scalenet_gp.kernels.tensors import UpsampledView, channels_last, crop_tensor
from scalenet_gp.kernels.work_counter import WorkCounter

__all__ = [
    "BeyondLimitError",
    "GroupNorm",
    "GroupNormGuard",
    "MemoryTracker",
    "OneDnnConvolutions",
    "UpsampledView",
    "WorkCounter",
    "accepts_unfused_inputs",
    "channels_last",
    "choose_device",
    "collect_garbage_by_hand",
    "convolve_joined",
    "crop_tensor",
    "fake_copy",
    "fake_tensors",
    "find_device",
    "join_parts",
    "keep_freed_memory",
    "most_groups",
    "numba_jit",
    "recast_convolutions",
    "return_freed_memory",
    "run_checkpointed",
    "set_deterministic_mkl",
    "watch_operations",
]
