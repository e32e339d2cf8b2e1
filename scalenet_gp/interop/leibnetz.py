"""Weights of LeibNetz."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from scalenet_gp.interop.weights import load_renamed
from scalenet_gp.leibnet import LeibNet

__all__ = ["load_leibnetz_weights"]


def load_leibnetz_weights(net: LeibNet, state_dict: Mapping[str, Tensor]) -> None:
    """Give ``net`` the weights of the same network in the package LeibNetz.

    Args:
        net: built with the arguments that LeibNetz's builder was given.
        state_dict: LeibNetz's ``state_dict()``; arrays do as well as tensors.

    Raises:
        ValueError: a weight is missing, left over, or of another shape; nothing has been loaded then.
    """
    renamed = {_our_name(name): torch.as_tensor(weight) for name, weight in state_dict.items()}
    renamed.pop("", None)
    load_renamed(net, renamed)


def _our_name(name: str) -> str:
    """Where a LeibNetz weight lives here; empty for what LeibNetz lists a second time.

    LeibNetz has one activation module per pass, used between the convolutions and, by that name, once more.
    """
    renamed = re.sub(r"^nodes_dict\.([^.]+)\.model\.", r"nodes.\1.", name)
    if re.match(r"nodes\.[^.]+\.activation\.", renamed):
        return ""
    return renamed.replace(".conv_pass.", ".layers.").replace(".x_init_map.", ".projection.")
