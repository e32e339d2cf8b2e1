"""Weights of LeibNetz."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scalenet_gp.interop.weights import load_renamed
from scalenet_gp.layers import ConvPass, activation_layer
from scalenet_gp.leibnet import LeibNet

__all__ = ["leibnetz_arguments", "load_leibnetz_weights"]


def leibnetz_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with which our builders build the network that LeibNetz's build with ``arguments``.

    LeibNetz normalizes nothing unless told to, and then the input, too; and an output has as many channels between its
    convolutions as at its end.

    Args:
        arguments: arguments of LeibNetz's ``build_unet``, or of one subnet of its ``build_scalenet``.

    Example:
        >>> leibnetz_arguments({"norm_layer": "batch", "output_nc": 3})
        {'norm_layer': 'batch', 'normalize_input': True, 'hidden_nc': 3, 'output_nc': 3}
    """
    return {"norm_layer": None, "normalize_input": True, "hidden_nc": arguments.get("output_nc", 1), **arguments}


def load_leibnetz_weights(net: LeibNet, state_dict: Mapping[str, Tensor]) -> None:
    """Give ``net`` the weights of the same network in the package LeibNetz.

    Args:
        net: the network, built with the :func:`leibnetz_arguments` of those that LeibNetz's builder was given.
        state_dict: LeibNetz's ``state_dict()``, of tensors or arrays.

    Raises:
        CheckpointError: a weight is missing, left over, or of another shape; nothing is loaded then.
    """
    listed_again = _activations(net)
    weights = {
        name: weight for name, weight in state_dict.items() if not _listed_twice(weight, name, listed_again, state_dict)
    }
    load_renamed(net, weights, {name: _their_name(name) for name in net.state_dict()})


def _their_name(name: str) -> str:
    """Return the name of a weight in LeibNetz."""
    renamed = re.sub(r"^nodes\.([^.]+)\.", r"nodes_dict.\1.model.", name)
    return renamed.replace(".layers.", ".conv_pass.").replace(".projection.", ".x_init_map.")


def _activations(net: LeibNet) -> dict[str, list[str]]:
    """Return the weights of activations that LeibNetz lists twice: by name, the other names of each.

    LeibNetz has one activation module per pass, which it uses, and lists again, between the convolutions.
    """
    listed: dict[str, list[str]] = {}
    for key, node in net.nodes.items():
        if not isinstance(node, ConvPass):
            continue
        activation = activation_layer(node.arguments["activation"])
        used = [f"layers.{index}" for index, layer in enumerate(node.layers) if type(layer) is type(activation)]
        if node.arguments["final_activation"] is None:
            used.append("final_activation")
        for weight in activation.state_dict():
            again = [_their_name(f"nodes.{key}.{place}.{weight}") for place in used]
            listed[f"nodes_dict.{key}.model.activation.{weight}"] = again
    return listed


def _listed_twice(
    weight: Tensor, name: str, listed_again: Mapping[str, list[str]], state_dict: Mapping[str, Tensor]
) -> bool:
    """Return True if a weight is a second listing of an activation's weight, with the same values."""
    return name in listed_again and all(
        other not in state_dict or torch.equal(torch.as_tensor(weight), torch.as_tensor(state_dict[other]))
        for other in listed_again[name]
    )
