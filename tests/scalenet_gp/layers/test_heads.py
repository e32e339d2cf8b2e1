"""Heads that make the classes of a group, and the bottleneck that predicts a distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from funlib.geometry import Roi
from torch import Tensor

from scalenet_gp import LeibNet, TensorSpec
from scalenet_gp.layers import Head, VariationalBottleneck
from scalenet_gp.losses import KullbackLeibler
from scalenet_gp.testing import NodeCase, NodeTester

SIZE = (8, 4, 4)
IO = (["a"], ["b"])
LATENT = (["a"], ["sample", "mean", "log_variance"])
dimensions = pytest.mark.parametrize("dims", [2, 3])


class TestHead(NodeTester):
    cases = {  # noqa: RUF012
        "one": NodeCase(lambda dims: Head(*IO, 3, ["cell"], dims=dims), {"a": TensorSpec(SIZE, 3)}),
        "softmax": NodeCase(
            lambda dims: Head(*IO, 2, ["er", "golgi", "er_lumen"], [4, 5], "GELU", "Softmax", dims=dims),
            {"a": TensorSpec(SIZE, 2)},
        ),
    }
    wrong = {  # noqa: RUF012
        "no class": (lambda: Head(*IO, 1, []), "b: classes is a list of one or more different names, not []"),
        "twice": (lambda: Head(*IO, 1, ["er", "er"]), "not ['er', 'er']"),
        "one string": (lambda: Head(*IO, 1, "er"), "classes is 'er': it has to be a list"),
        "activation": (
            lambda: Head(*IO, 1, ["er"], final_activation="softmax"),
            "torch.nn has no activation 'softmax'",
        ),
        "empty activation": (lambda: Head(*IO, 1, ["er"], final_activation=""), "torch.nn has no activation ''"),
        "channels": (
            lambda: LeibNet([Head(*IO, 2, ["er"])], {"a": TensorSpec(SIZE, 3)}, ["b"]),
            "it takes 2 channels, its input has 3",
        ),
    }


def features(dims: int, channels: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, *(3, 4, 5)[:dims], generator=generator, dtype=torch.float64)


@dimensions
def test_a_head_by_numpy(dims: int) -> None:
    node, x = (
        Head(*IO, 2, ["er", "golgi", "nucleus"], [4], final_activation="Softmax", dims=dims).double(),
        features(dims),
    )
    first, last = (
        layer.weight.detach().numpy().reshape(layer.weight.shape[:2]) for layer in (node.layers[0], node.layers[2])
    )
    logits = np.einsum("oh,bh...->bo...", last, np.maximum(np.einsum("hc,bc...->bh...", first, x), 0))
    odds = np.exp(logits)
    np.testing.assert_allclose(node(x).detach(), odds / odds.sum(axis=1, keepdims=True), rtol=1e-12)
    assert node.classes == ("er", "golgi", "nucleus")


def test_only_the_heads_that_are_asked_for_are_computed() -> None:
    organelles, membranes = Head(["a"], ["organelles"], 2, ["er", "golgi"]), Head(["a"], ["membranes"], 2, ["pm"])
    net = LeibNet([organelles, membranes], {"a": TensorSpec(SIZE, 2)}, ["organelles", "membranes"])
    calls: list[str] = []
    for node in (organelles, membranes):
        node.register_forward_hook(lambda node, *_: calls.append(node.identifier))
    roi = Roi((0, 0, 0), net.voxel_size["a"] * 2)
    plan = net.plan({"membranes": roi})
    made = net({"a": torch.zeros(1, 2, 2, 2, 2)}, plan)
    assert calls == ["membranes"]
    assert {key: tensor.shape[1] for key, tensor in made.items()} == {"membranes": 1}
    both = net({"a": torch.zeros(1, 2, 2, 2, 2)}, net.plan({"membranes": roi, "organelles": roi}))
    assert {key: tensor.shape[1] for key, tensor in both.items()} == {"membranes": 1, "organelles": 2}


class TestVariationalBottleneck(NodeTester):
    cases = {  # noqa: RUF012
        "latent": NodeCase(lambda dims: VariationalBottleneck(*LATENT, 3, 2, dims=dims), {"a": TensorSpec(SIZE, 3)}),
    }
    wrong = {  # noqa: RUF012
        "names": (lambda: VariationalBottleneck(*IO, 3, 2), "which are three names, not ['b']"),
        "channels": (
            lambda: LeibNet([VariationalBottleneck(*LATENT, 3, 2)], {"a": TensorSpec(SIZE, 2)}, ["mean"]),
            "it takes 3 channels, its input has 2",
        ),
    }


@dimensions
def test_the_sample_is_the_mean_in_evaluation(dims: int) -> None:
    node, x = VariationalBottleneck(*LATENT, 3, 2, dims=dims).double().eval(), features(dims, 3)
    state = torch.get_rng_state()
    sample, mean, log_variance = node(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(sample, mean)
    mean.detach().zero_()
    assert sample.detach().any()
    mean = node(x)[1]
    for made, layer in ((mean, node.mean), (log_variance, node.log_variance)):
        weight = layer.weight.detach().numpy().reshape(2, 3)
        np.testing.assert_allclose(made.detach(), np.einsum("oc,bc...->bo...", weight, x), rtol=1e-12)


@dimensions
def test_the_samples_in_training_have_the_predicted_mean_and_variance(dims: int) -> None:
    node, x = VariationalBottleneck(*LATENT, 3, 2, dims=dims).double().train(), features(dims, 3)[:1]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        samples, mean, log_variance = node(x.expand(20_000, *x.shape[1:]))
    deviation = torch.exp(log_variance[0] / 2)
    standard = (samples - mean[0]) / deviation
    assert (standard.mean(dim=0).abs() < 5 / 20_000**0.5).all()
    assert ((standard.var(dim=0) - 1).abs() < 5 * (2 / 20_000) ** 0.5).all()
    neighbours = (standard[..., 1:] * standard[..., :-1]).mean()
    assert neighbours.abs() < 5 / standard.numel() ** 0.5


def test_the_divergence_draws_the_bottleneck_to_the_standard_normal_distribution() -> None:
    node, x = VariationalBottleneck(*LATENT, 3, 2, dims=2), features(2, 3).float()
    optimizer, loss = torch.optim.Adam(node.parameters(), lr=0.1), KullbackLeibler()
    for _ in range(200):
        optimizer.zero_grad()
        _, mean, log_variance = node(x)
        divergence = loss(mean, log_variance)
        divergence.backward()
        optimizer.step()
    assert divergence.item() < 1e-4
    assert mean.abs().max() < 0.02
    assert log_variance.abs().max() < 0.02
