"""Weights of another package, under the names that they have here, into a network: all of them or none."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from scalenet_gp.leibnet import LeibNet

__all__ = ["load_renamed"]

_LISTED = 8


def load_renamed(net: LeibNet, weights: Mapping[str, Tensor]) -> None:
    """Load ``weights``, which bear the names of ``net.state_dict()``.

    Raises:
        ValueError: a weight is missing, left over, or of another shape; nothing has been loaded then.
    """
    own = net.state_dict()
    problems = [f"missing {name}" for name in own if name not in weights]
    problems += [f"left over {name}" for name in weights if name not in own]
    problems += [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(weight.shape)}"
        for name, weight in own.items()
        if name in weights and weights[name].shape != weight.shape
    ]
    if problems:
        more = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise ValueError(f"these are not the weights of this {net.name}: {'; '.join(problems[:_LISTED])}{more}")
    net.load_state_dict(weights)
