"""Loading of weights of another package into a network: all of them or none."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from scalenet_gp.errors import CheckpointError
from scalenet_gp.leibnet import LeibNet

__all__ = ["load_renamed"]

_LISTED = 8


def load_renamed(net: LeibNet, weights: Mapping[str, Tensor | np.ndarray], their_names: Mapping[str, str]) -> None:
    """Load ``weights`` that have the names of another package.

    Args:
        net: the network that gets them.
        weights: tensors or arrays, by their names there.
        their_names: the name there of each name of ``net.state_dict()``.

    Raises:
        CheckpointError: a weight is missing, left over, or of another shape, by its name there; then nothing is loaded.
    """
    own = {their_names[name]: weight for name, weight in net.state_dict().items()}
    given = {name: _tensor(weight) for name, weight in weights.items()}
    problems = [f"missing {name}" for name in own if name not in given]
    problems += [f"left over {name}" for name in given if name not in own]
    problems += [
        f"{name} is {tuple(given[name].shape)} instead of {tuple(weight.shape)}"
        for name, weight in own.items()
        if name in given and given[name].shape != weight.shape
    ]
    if problems:
        more = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise CheckpointError(f"these are not the weights of this {net.name}: {'; '.join(problems[:_LISTED])}{more}")
    net.load_state_dict({ours: given[theirs] for ours, theirs in their_names.items()})


def _tensor(weight: Tensor | np.ndarray) -> Tensor:
    """Return the weight as a tensor; an array may be read-only, as of a mapped file, or of another byte order."""
    return weight if isinstance(weight, Tensor) else torch.from_numpy(weight.astype(weight.dtype.newbyteorder("=")))
