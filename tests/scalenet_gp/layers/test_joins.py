"""Sum, gated sum and attention over scales: what becomes of several tensors of one voxel size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from scalenet_gp import LeibNet, Node, TensorSpec
from scalenet_gp.layers import GatedSum, Mean, ScaleAttention, Sum
from scalenet_gp.testing import NodeCase, NodeTester

SIZE = (8, 4, 4)
KEYS = ["a", "b", "c"]
NCS = [3, 3, 2]


def join(kind: Callable[..., Node]) -> dict[str, NodeCase]:
    def case(ncs: list[int]) -> NodeCase:
        keys = KEYS[: len(ncs)]
        inputs = {key: TensorSpec(SIZE, nc) for key, nc in zip(keys, ncs, strict=True)}
        return NodeCase(lambda dims: kind(keys, ["d"], ncs, dims=dims), inputs)

    return {"alike": case([2, 2]), "projected": case(NCS)}


def refusals(kind: Callable[..., Node]) -> dict[str, tuple[Callable[[], object], str]]:
    def net(channels: int, dims: int) -> LeibNet:
        node = kind(["a", "b"], ["d"], [1, 2], dims=dims)
        return LeibNet([node], {"a": TensorSpec(SIZE, 1), "b": TensorSpec(SIZE, channels)}, ["d"])

    return {
        "one tensor": (lambda: kind(["a"], ["d"], [1]), "d: it joins two or more tensors and takes the channels of"),
        "too few channels": (lambda: kind(KEYS, ["d"], [1, 2]), "not ['a', 'b', 'c'] with [1, 2]"),
        "other channels": (lambda: net(3, dims=3), "it joins tensors of (1, 2) channels, its inputs have (1, 3)"),
        "other axes": (lambda: net(2, dims=2), "its kernels have 2 axes, its input has 3"),
        "other voxels": (
            lambda: LeibNet([kind(["a", "b"], ["d"], [1, 1])], {"a": TensorSpec((8, 8, 8), 1), "b": SPEC}, ["d"]),
            "have to share one voxel size: 'a' 8 × 8 × 8 nm, 'b' 8 × 4 × 4 nm",
        ),
    }


SPEC = TensorSpec(SIZE, 1)


class TestSum(NodeTester):
    cases = join(Sum)
    wrong = refusals(Sum)


class TestGatedSum(NodeTester):
    cases = join(GatedSum)
    wrong = refusals(GatedSum)


class TestScaleAttention(NodeTester):
    cases = join(ScaleAttention)
    wrong = refusals(ScaleAttention)


def test_a_mean_takes_one_number_of_channels():
    a, b = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[3.0, 6.0]]]])
    assert torch.equal(Mean(["a", "b"], ["c"])(a, b), torch.tensor([[[[2.0, 4.0]]]]))
    assert torch.equal(a, torch.tensor([[[[1.0, 2.0]]]]))
    with pytest.raises(ValueError, match=r"one number of channels, its inputs have \(1, 2\)"):
        Mean(["a", "b"], ["c"]).output_channels(1, 2)


def example(ncs: list[int] = NCS, dims: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, nc, *(3, 4, 2)[:dims], generator=generator, dtype=torch.float64) for nc in ncs]


def randomize(node: Node) -> Node:
    generator = torch.Generator().manual_seed(1)
    node.double()
    with torch.no_grad():
        for parameter in node.parameters():
            parameter.normal_(generator=generator)
    return node


def point(layer: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    """A 1³ convolution by numpy."""
    weight = layer.weight.detach().numpy().reshape(layer.weight.shape[:2])
    bias = 0 if layer.bias is None else layer.bias.detach().numpy().reshape(-1, *(1,) * (x.ndim - 2))
    return np.moveaxis(np.tensordot(weight, x, axes=(1, 1)), 0, 1) + bias


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


dimensions = pytest.mark.parametrize("dims", [2, 3])


@dimensions
def test_a_sum_by_numpy(dims: int) -> None:
    node, tensors = randomize(Sum(KEYS, ["d"], NCS, dims)), example(dims=dims)
    a, b, c = (tensor.numpy() for tensor in tensors)
    np.testing.assert_allclose(node(*tensors).detach(), a + b + point(node.projections[1], c), rtol=1e-12)
    assert [name for name, _ in node.named_parameters()] == ["projections.1.weight"]


@dimensions
def test_a_gated_sum_by_numpy(dims: int) -> None:
    node, tensors = randomize(GatedSum(KEYS, ["d"], NCS, dims)), example(dims=dims)
    a, b, c = (tensor.numpy() for tensor in tensors)
    first, second = (
        sigmoid(point(gate, np.concatenate([a, x], 1))) for gate, x in zip(node.gates, (b, c), strict=True)
    )
    expected = a + first * b + second * point(node.projections[1], c)
    np.testing.assert_allclose(node(*tensors).detach(), expected, rtol=1e-12)


@pytest.mark.parametrize(("bias", "open_"), [(-1000.0, False), (1000.0, True)])
def test_the_gates_of_a_sum_close_and_open(bias: float, open_: bool) -> None:
    node, tensors = GatedSum(["a", "b"], ["d"], [2, 2]).double(), example([2, 2])
    with torch.no_grad():
        node.gates[0].weight.zero_()
        node.gates[0].bias.copy_(torch.tensor([bias, -bias]))
    a, b = tensors
    expected = a.clone()
    expected[:, 0 if open_ else 1] += b[:, 0 if open_ else 1]
    assert torch.equal(node(a, b), expected)


@dimensions
def test_attention_over_scales_by_numpy(dims: int) -> None:
    node, tensors = randomize(ScaleAttention(KEYS, ["d"], NCS, dims)), example(dims=dims)
    a, b, c = (tensor.numpy() for tensor in tensors)
    scores = point(node.score[2], np.maximum(point(node.score[0], np.concatenate([a, b, c], 1)), 0))
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    projected = [a, b, point(node.projections[1], c)]
    expected = sum(weights[:, [i]] * x for i, x in enumerate(projected))
    np.testing.assert_allclose(node(*tensors).detach(), expected, rtol=1e-12)


def test_the_weights_of_attention_over_scales_add_up_to_one() -> None:
    """Equal inputs give that output; an input that scores far more than the others is the output."""
    node = randomize(ScaleAttention(KEYS, ["d"], [2, 2, 2]))
    (x, y, z) = example([2, 2, 2])
    torch.testing.assert_close(node(x, x, x), x, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        node.score[2].bias.copy_(torch.tensor([0.0, 1e4, 0.0]))
    assert torch.equal(node(x, y, z), y)
