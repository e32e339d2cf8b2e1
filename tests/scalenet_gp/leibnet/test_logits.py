"""Logits of a network: they and their activation make the outputs, however the network is run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scalenet_gp import LeibNet, build_scalenet, build_unet
from scalenet_gp.errors import UnknownNameError
from scalenet_gp.graph import TensorSpec
from scalenet_gp.layers import ConvPass
from scalenet_gp.losses import apply_activation

COMMON: dict[str, Any] = {"base_nc": 2, "downsample_factors": [(2, 2)]}


def read_by_another() -> LeibNet:
    """The first output is the input of the node that makes the second."""
    first = ConvPass(["raw"], ["first"], 1, 2, [(3, 3)], final_activation="Sigmoid")
    second = ConvPass(["first"], ["second"], 2, 2, [(1, 1)], final_activation="Softmax")
    return LeibNet([first, second], {"raw": TensorSpec((8, 8), 1)}, ["first", "second"])


NETS = {
    "U-Net": lambda: build_unet((8, 8), **COMMON),
    "softmax": lambda: build_unet((8, 8), output_nc=3, final_activation="Softmax", **COMMON),
    "none": lambda: build_unet((8, 8), final_activation="Identity", **COMMON),
    "tanh": lambda: build_unet((8, 8), final_activation="Tanh", **COMMON),
    "heads": lambda: build_unet(
        (8, 8),
        heads={"organelles": ["mito", "er"], "cell": {"classes": ["in", "out"], "final_activation": "Softmax"}},
        deep_supervision=True,
        base_nc=2,
        downsample_factors=[(2, 2), (2, 2)],
    ),
    "scales": lambda: build_scalenet([{"top_resolution": (size,) * 2, **COMMON} for size in (16, 8)]),
    "residual": lambda: build_unet((8, 8), residual=True, **COMMON),
}


def inputs_of(net: LeibNet) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    planned = net.smallest_plan.input_tensors
    return {name: torch.rand(2, t.channels, *t.shape, generator=generator) for name, t in planned.items()}


def activated(net: LeibNet, logits: dict[str, Tensor]) -> dict[str, Tensor]:
    activations = {name: net.output_activation(name) for name in logits}
    return {name: x if (a := activations[name]) is None else apply_activation(x, a) for name, x in logits.items()}


@pytest.mark.parametrize("name", NETS)
def test_logits_and_their_activation_are_the_outputs(name: str) -> None:
    torch.manual_seed(0)
    net = NETS[name]()
    plan, inputs = net.smallest_plan, inputs_of(net)
    outputs, logits = net(inputs, plan), net(inputs, plan, logits=True)
    assert logits.keys() == outputs.keys()
    for key, tensor in activated(net, logits).items():
        torch.testing.assert_close(tensor, outputs[key], rtol=1e-6, atol=1e-7)
        assert (net.output_activation(key) is None) == torch.equal(logits[key], outputs[key])
    for key, tensor in zip(plan.outputs, net.specialize(plan, logits=True)(*inputs.values()), strict=True):
        assert torch.equal(tensor, logits[key])


@pytest.mark.parametrize("name", ["heads", "scales"])
def test_activation_checkpointing_leaves_logits_and_gradients_alone(name: str) -> None:
    torch.manual_seed(0)
    net = NETS[name]()
    plan, inputs, gradients = net.smallest_plan, inputs_of(net), []
    for checkpointed in ((), tuple(net.nodes)):
        made = net(inputs, plan, checkpointed, logits=True)
        loss = sum((output**2).mean() for output in made.values())
        gradients.append(torch.autograd.grad(loss, list(net.parameters())))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_a_node_that_reads_an_output_gets_probabilities() -> None:
    torch.manual_seed(0)
    net = read_by_another()
    plan, inputs = net.smallest_plan, inputs_of(net)
    outputs, logits = net(inputs, plan), activated(net, net(inputs, plan, logits=True))
    for key, tensor in outputs.items():
        torch.testing.assert_close(logits[key], tensor, rtol=1e-6, atol=1e-7)


def test_the_activation_is_told_by_name() -> None:
    net = NETS["heads"]()
    names = {name: net.output_activation(name) for name in net.output_keys}
    assert names == {"output": "Sigmoid", "organelles": "Sigmoid", "cell": "Softmax", "output_1": "Sigmoid"}
    assert NETS["tanh"]().output_activation("output") is None
    with pytest.raises(UnknownNameError, match="no output 'nothing'; there are output"):
        net.output_activation("nothing")
