"""Notes on how a network will train and predict, given before the first batch."""

from __future__ import annotations

import math

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet

__all__ = ["training_notes"]

_FEW_VALUES = 4096
"""Values per channel below which one sample says little about all: 16³ voxels."""

_LISTED = 3


def training_notes(net: LeibNet, plan: Plan, samples: int) -> list[str]:
    """Return what a user should know before training begins, a sentence or two each.

    Args:
        net: the network.
        plan: the plan of a batch.
        samples: samples in a batch, of all processes.
    """
    notes = []
    few = _fewest_values(net, plan) if samples == 1 else None
    if few is not None and few[1] < _FEW_VALUES:
        notes.append(
            f"batch normalization with one sample in a batch: {few[0]} normalizes it by its own {few[1]} voxels, and "
            "prediction by the statistics of many samples, so the two differ; take a larger training.batch_size or "
            "training.output_shape, or norm_layer 'calibrated_group'"
        )
    whole = [name for name, node in net.nodes.items() if not node.tileable]
    if whole:
        more = f" and {len(whole) - _LISTED} more" if len(whole) > _LISTED else ""
        notes.append(
            f"{', '.join(whole[:_LISTED])}{more} of {net.name} depend on the whole of their input: a region of several "
            "blocks is predicted in tiles that overlap and are blended, not exactly. For exact tiles, take norm_layer "
            "'batch', 'calibrated_group' or none, and no squeeze_excitation, eca or transformer"
        )
    return notes


def _fewest_values(net: LeibNet, plan: Plan) -> tuple[str, int] | None:
    """Return the node with batch normalization that reads the smallest tensor, and its number of voxels."""
    computed = {step.node for step in plan.steps}
    read = {
        name: min(math.prod(plan.tensor(key).shape) for key in node.input_keys)
        for name, node in net.graph.nodes.items()
        if name in computed and _normalizes_over_batch(node)
    }
    return min(read.items(), key=lambda entry: entry[1]) if read else None


def _normalizes_over_batch(node: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in node.modules())
