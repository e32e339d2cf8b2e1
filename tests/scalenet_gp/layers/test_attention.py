"""The attention gate of a skip connection, and self-attention between the voxels of a tensor."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scalenet_gp import LeibNet, TensorSpec
from scalenet_gp.layers import AttentionGate, TransformerBlock
from scalenet_gp.testing import NodeCase, NodeTester

SIZE = (8, 4, 4)
GATE = (["skip", "gating"], ["gated"])
IO = (["a"], ["b"])
dimensions = pytest.mark.parametrize("dims", [2, 3])


def gate_net(skip_nc: int, gating_nc: int) -> LeibNet:
    inputs = {"skip": TensorSpec(SIZE, skip_nc), "gating": TensorSpec(SIZE, gating_nc)}
    return LeibNet([AttentionGate(*GATE, 4, 6)], inputs, ["gated"])


class TestAttentionGate(NodeTester):
    cases = {  # noqa: RUF012
        "gate": NodeCase(
            lambda dims: AttentionGate(*GATE, 4, 3, dims=dims),
            {"skip": TensorSpec(SIZE, 4), "gating": TensorSpec(SIZE, 3)},
        ),
        "wide": NodeCase(
            lambda dims: AttentionGate(*GATE, 1, 2, gate_nc=3, dims=dims),
            {"skip": TensorSpec(SIZE, 1), "gating": TensorSpec(SIZE, 2)},
        ),
    }
    wrong = {  # noqa: RUF012
        "one input": (lambda: AttentionGate(*IO, 4, 4), "a AttentionGate reads 2 tensor(s), not ['a']"),
        "skip channels": (lambda: gate_net(3, 6), "it gates 4 channels by 6, its inputs have 3 and 6"),
        "gating channels": (lambda: gate_net(4, 4), "it gates 4 channels by 6, its inputs have 4 and 4"),
        "coarser gating": (
            lambda: LeibNet(
                [AttentionGate(*GATE, 1, 1)],
                {"skip": TensorSpec(SIZE, 1), "gating": TensorSpec((8, 8, 8), 1)},
                ["gated"],
            ),
            "have to share one voxel size: 'skip' 8 × 4 × 4 nm, 'gating' 8 × 8 × 8 nm",
        ),
        "axes": (lambda: AttentionGate(*GATE, 1, 1, dims=4), "a kernel has 2 or 3 axes of at least one voxel"),
    }


def gate_example(dims: int) -> tuple[AttentionGate, Tensor, Tensor]:
    """A gate with random weights, and inputs for it."""
    generator = torch.Generator().manual_seed(0)
    node = AttentionGate(*GATE, 4, 3, dims=dims).double()
    with torch.no_grad():
        for parameter in node.parameters():
            parameter.normal_(generator=generator)
    skip, gating = (torch.randn(2, nc, *(3, 4, 5)[:dims], generator=generator, dtype=torch.float64) for nc in (4, 3))
    return node, skip, gating


@dimensions
def test_a_gate_by_numpy(dims: int) -> None:
    node, skip, gating = gate_example(dims)
    of_skip, of_gating, psi = (
        layer.weight.detach().numpy().reshape(layer.weight.shape[:2])
        for layer in (node.of_skip, node.of_gating, node.psi)
    )
    assert (of_skip.shape, of_gating.shape, psi.shape) == ((2, 4), (2, 3), (1, 2))
    assert node.of_skip.bias is None
    b_g, b_psi = node.of_gating.bias.detach().numpy(), node.psi.bias.item()
    made = node(skip, gating).detach().numpy()
    for place in np.ndindex(2, *skip.shape[2:]):
        at = (place[0], slice(None), *place[1:])
        x, g = skip.numpy()[at], gating.numpy()[at]
        opened = 1 / (1 + math.exp(-((psi @ np.maximum(of_skip @ x + of_gating @ g + b_g, 0)).item() + b_psi)))
        np.testing.assert_allclose(made[at], x * opened, rtol=1e-12)


@dimensions
def test_a_gate_is_one_number_per_voxel_and_the_same_for_all_channels(dims: int) -> None:
    node, skip, gating = gate_example(dims)
    opened = node(skip, gating) / skip
    torch.testing.assert_close(opened, opened[:, :1].expand_as(opened), rtol=1e-12, atol=0)
    assert ((opened > 0) & (opened < 1)).all()
    assert opened[:, 0].std() > 0.01


@dimensions
def test_a_gate_opens_and_closes_where_the_coarser_tensor_says(dims: int) -> None:
    node, skip, _ = gate_example(dims)
    with torch.no_grad():
        for parameter in node.parameters():
            parameter.zero_()
        node.of_gating.weight[0, 0] = 1
        node.psi.weight[0, 0] = 4000
        node.psi.bias.fill_(-2000)
    gating = torch.zeros(2, 3, *skip.shape[2:], dtype=torch.float64)
    assert (node(skip, gating) == 0).all()
    assert torch.equal(node(skip, gating + 1), skip)
    gating[:, 0, 1] = 1
    made = node(skip, gating)
    assert torch.equal(made[:, :, 1], skip[:, :, 1])
    assert (made[:, :, [0, 2]] == 0).all()


@dimensions
def test_gradients_reach_both_sides_of_a_gate(dims: int) -> None:
    node, skip, gating = gate_example(dims)
    node(skip.requires_grad_(), gating.requires_grad_()).sum().backward()
    assert (skip.grad != 0).all()
    assert (gating.grad != 0).any(dim=1).double().mean() > 0.5


def block_net(channels: int) -> LeibNet:
    return LeibNet([TransformerBlock(*IO, 8)], {"a": TensorSpec(SIZE, channels)}, ["b"])


class TestTransformerBlock(NodeTester):
    cases = {  # noqa: RUF012
        "block": NodeCase(lambda dims: TransformerBlock(*IO, 8, dims=dims), {"a": TensorSpec(SIZE, 8)}),
        "odd": NodeCase(
            lambda dims: TransformerBlock(*IO, 9, num_heads=3, mlp_ratio=0.5, dropout_prob=0.2, dims=dims),
            {"a": TensorSpec(SIZE, 9)},
        ),
    }
    wrong = {  # noqa: RUF012
        "heads": (lambda: TransformerBlock(*IO, 9), "b: input_nc has to be a multiple of num_heads"),
        "no heads": (lambda: TransformerBlock(*IO, 8, num_heads=0), "8 channels and 0 heads are given"),
        "too few": (
            lambda: TransformerBlock(*IO, 4),
            "at least 6 for a sine and a cosine along each of 3 axes; 4 chan",
        ),
        "no mlp": (lambda: TransformerBlock(*IO, 8, mlp_ratio=0.01), "b: mlp_ratio 0.01 of 8 channels leaves none"),
        "dropout": (lambda: TransformerBlock(*IO, 8, dropout_prob=1.5), "1.5"),
        "channels": (lambda: block_net(4), "it takes 8 channels, its input has 4"),
    }


def block(dims: int, **arguments: object) -> TransformerBlock:
    generator = torch.Generator().manual_seed(0)
    node = TransformerBlock(*IO, 8, dims=dims, **arguments).double().eval()
    with torch.no_grad():
        for parameter in node.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return node


def tokens(dims: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, 8, *(3, 4, 2)[:dims], generator=torch.Generator().manual_seed(1), dtype=dtype)


def position_by_hand(channel: int, place: tuple[int, ...], channels: int) -> float:
    """Vaswani et al. 2017, section 3.5, for the channels of one axis, which are every ``len(place)``-th."""
    axis, index = channel % len(place), channel // len(place)
    wavelength = 10000 ** (2 * (index // 2) / math.ceil(channels / len(place)))
    return (math.cos if index % 2 else math.sin)(place[axis] / wavelength)


@dimensions
def test_a_transformer_block_by_numpy(dims: int) -> None:
    node, x = block(dims), tokens(dims)
    weights = {name.removeprefix("layer."): w.detach().numpy() for name, w in node.named_parameters()}
    places = list(np.ndindex(*x.shape[2:]))
    positions = np.array([[position_by_hand(c, place, 8) for c in range(8)] for place in places])

    def normed(y: np.ndarray, name: str) -> np.ndarray:
        y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
        return y * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(y: np.ndarray, name: str) -> np.ndarray:
        return y @ weights[f"{name}weight"].T + weights[f"{name}bias"]

    for sample, made in zip(x.numpy(), node(x).detach().numpy(), strict=True):
        y = sample.reshape(8, -1).T + positions
        query, key, value = np.split(linear(normed(y, "norm1"), "self_attn.in_proj_"), 3, axis=1)
        heads = []
        for head in range(4):
            own = slice(2 * head, 2 * head + 2)
            scores = np.exp(query[:, own] @ key[:, own].T / math.sqrt(2))
            heads.append(scores / scores.sum(axis=1, keepdims=True) @ value[:, own])
        y = y + linear(np.concatenate(heads, axis=1), "self_attn.out_proj.")
        inner = linear(normed(y, "norm2"), "linear1.")
        inner *= (1 + np.vectorize(math.erf)(inner / math.sqrt(2))) / 2
        y = y + linear(inner, "linear2.")
        np.testing.assert_allclose(made.reshape(8, -1).T, y, rtol=1e-9, atol=1e-9)


@dimensions
def test_positions_tell_voxels_apart_and_count_from_the_first(dims: int) -> None:
    node = block(dims)
    with torch.no_grad():
        for parameter in node.parameters():
            parameter.zero_()
    made = node(torch.zeros(1, 8, *(9, 7, 8)[:dims], dtype=torch.float64))[0].flatten(start_dim=1).T
    apart = torch.cdist(made, made) + torch.eye(len(made))
    assert apart.min() > 1e-3
    smaller = node(torch.zeros(1, 8, *(4, 5, 2)[:dims], dtype=torch.float64))[0]
    whole = made.T.reshape(8, *(9, 7, 8)[:dims])
    assert torch.equal(smaller, whole[(slice(None), *(slice(n) for n in (4, 5, 2)[:dims]))])


@dimensions
def test_evaluation_takes_the_way_that_training_takes(dims: int) -> None:
    """torch has another one for this layer, without gradients, that agrees to rounding at best."""
    node, x = block(dims).float(), tokens(dims, torch.float32)
    with_gradient = node(x).detach()
    with torch.no_grad():
        assert torch.equal(node(x), with_gradient)
        assert torch.equal(node.train()(x), with_gradient)
    assert isinstance(node.layer, nn.TransformerEncoderLayer)


def test_a_transformer_block_drops_in_training_only() -> None:
    node, x = block(3, dropout_prob=0.5), tokens(3)
    assert torch.equal(node(x), node(x))
    node.train()
    assert not torch.equal(node(x), node(x))
