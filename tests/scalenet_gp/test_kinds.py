"""Each kind of node by itself: what it computes and refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from funlib.geometry import Roi
from torch import nn

from scalenet_gp import LeibNet, TensorSpec
from scalenet_gp.kinds import Concatenate, ConvPass, Pool, StridedConv, TransposedConv, Upsample
from scalenet_gp.node import node_of_kind

IO = (["a"], ["b"])


def kinds_of(node: ConvPass) -> list[str]:
    return [type(layer).__name__ for layer in node.layers]


def test_the_layers_of_a_pass_stand_where_leibnetz_puts_them():
    """LeibNetz 2025.11.13, ``node_ops.ConvPass``: normalisation and dropout before, excitation after a convolution."""
    plain = ConvPass(*IO, 1, 2, [(3, 3)] * 3)
    assert kinds_of(plain) == ["Conv2d", "ReLU", "Conv2d", "ReLU", "Conv2d"]
    residual = ConvPass(*IO, 1, 2, [(3, 3)] * 3, residual=True)
    assert kinds_of(residual) == ["Conv2d", "Conv2d", "ReLU", "Conv2d"]
    full = ConvPass(
        *IO, 1, 2, [(3, 3, 3)] * 2, activation="GELU", norm_layer="Batch", dropout_prob=0.1, squeeze_excitation=True
    )
    first = ["BatchNorm3d", "Dropout", "Conv3d", "GELU"]
    assert kinds_of(full) == [*first, "BatchNorm3d", "Dropout", "Conv3d", "SqueezeExcitation"]
    assert [layer.num_features for layer in full.layers if isinstance(layer, nn.BatchNorm3d)] == [1, 2]
    assert isinstance(full.final_activation, nn.GELU)
    early = ConvPass(*IO, 1, 4, [(3, 3)] * 3, squeeze_excitation=True, squeeze_ratio=3)
    assert kinds_of(early) == ["Conv2d", "ReLU", "Conv2d", "SqueezeExcitation", "ReLU", "Conv2d"]
    assert kinds_of(ConvPass(*IO, 1, 2, [(3, 3)], dropout_prob=0.0)) == ["Conv2d"]


@pytest.mark.parametrize(
    ("input_nc", "output_nc", "groups"), [(2, 4, 2), (4, 2, 2), (3, 3, 3), (3, 4, 1), (4, 6, 1), (1, 5, 1)]
)
def test_the_projection_of_a_residual_pass_is_grouped_as_in_leibnetz(input_nc, output_nc, groups):
    assert ConvPass(*IO, input_nc, output_nc, [(3, 3)], residual=True).projection.groups == groups


@pytest.mark.parametrize(
    ("name", "kind"), [("batch", "BatchNorm"), ("InstanceNorm", "InstanceNorm"), ("GROUP", "GroupNorm")]
)
@pytest.mark.parametrize("dims", [2, 3])
def test_normalisations_by_name(name, kind, dims):
    node = ConvPass(*IO, 6, 12, [(3,) * dims] * 2, norm_layer=name)
    assert kinds_of(node)[0] == (kind if kind == "GroupNorm" else f"{kind}{dims}d")
    if kind == "GroupNorm":
        assert [layer.num_groups for layer in node.layers if isinstance(layer, nn.GroupNorm)] == [2, 4]


def test_the_projected_centre_is_added():
    node = ConvPass(*IO, 1, 1, [(3, 5), (3, 1)], residual=True, activation="Identity")
    with torch.no_grad():
        for parameter in node.parameters():
            parameter.zero_()
        node.projection.weight.fill_(3)
    x = torch.arange(7 * 9, dtype=torch.float32).reshape(1, 1, 7, 9)
    assert torch.equal(node(x), 3 * x[..., 2:-2, 2:-2])


def test_squeeze_and_excitation_by_numpy():
    node = ConvPass(*IO, 2, 4, [(1, 1, 1)], squeeze_excitation=True, activation="Identity")
    x = torch.randn(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y, result = node.layers[0](x).numpy(), node(x).numpy()
    excite = node.layers[1]
    w1, w2 = (layer.weight.detach().numpy()[..., 0, 0, 0] for layer in (excite.fc1, excite.fc2))
    assert w1.shape == (2, 4)
    weights = 1 / (1 + np.exp(-np.maximum(y.mean(axis=(2, 3, 4)) @ w1.T, 0) @ w2.T))
    np.testing.assert_allclose(result, y * weights[..., None, None, None], rtol=1e-4, atol=1e-6)


def test_same_padding_keeps_the_shape_and_the_place():
    node = ConvPass(*IO, 1, 1, [(3, 1), (5, 3)], padding="same", activation="Identity", residual=True)
    with torch.no_grad():
        for layer in node.layers:
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_()
                layer.weight[0, 0, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
        node.projection.weight.fill_(1)
    x = torch.arange(48, dtype=torch.float32).reshape(1, 1, 6, 8)
    assert torch.equal(node(x), 2 * x)


@pytest.mark.parametrize("factor", [(1, 2), (3, 1, 2), (41, 47), (2, 55)])
def test_upsampling_repeats_voxels_at_every_factor(factor):
    """At 41, 47 and 55 torch's ``"nearest"`` repeats one voxel once too often and the next once too seldom."""
    x = torch.randn(1, 2, *(5,) * len(factor))
    expected = x
    for axis, f in enumerate(factor, start=2):
        expected = expected.repeat_interleave(f, axis)
    assert torch.equal(Upsample(*IO, factor)(x), expected)


@pytest.mark.parametrize("mode", ["max", "mean"])
def test_pooling_by_numpy(mode):
    x = torch.randn(2, 3, 6, 6, 4)
    blocks = x.numpy().reshape(2, 3, 2, 3, 6, 1, 2, 2)
    np.testing.assert_allclose(
        Pool(*IO, (3, 1, 2), mode)(x).numpy(), getattr(blocks, mode)(axis=(3, 5, 7)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("node", "made", "asked"),
    [
        (Pool(*IO, (2, 3)), Roi((0, 24), (16, 24)), Roi((0, 24), (16, 24))),
        (StridedConv(*IO, 1, 1, (2, 3), (4, 5)), Roi((16, 48), (16, 24)), Roi((8, 40), (32, 40))),
        (StridedConv(*IO, 1, 1, (3, 3), (1, 3)), Roi((0, 24), (24, 24)), Roi((8, 24), (8, 24))),
    ],
    ids=["pool", "wide kernel", "narrow kernel"],
)
def test_coarse_voxels_come_from_whole_blocks_only(node, made, asked):
    LeibNet([node], {"a": TensorSpec((8, 8), 1)}, ["b"])
    assert node.input_roi(made) == asked
    assert node.output_roi(asked) == made
    assert node.output_roi(asked.grow((7, 7), (7, 7))) == made
    assert node.output_roi(asked.grow(0, (-1, 0))).empty


def test_a_transposed_convolution_fills_each_coarse_voxel():
    node = TransposedConv(*IO, 1, 1, (2, 3))
    with torch.no_grad():
        node.upsample.weight.copy_(torch.arange(6.0).reshape(1, 1, 2, 3))
    x = torch.tensor([[[[1.0, 10.0], [100.0, 1000.0]]]])
    assert torch.equal(node(x)[0, 0].detach(), torch.kron(x[0, 0], torch.arange(6.0).reshape(2, 3)))


WRONG = {
    "one name": (lambda: Concatenate("abc", ["d"]), "tensor names come as a list of strings, not as one: 'abc', ['d']"),
    "one name made": (lambda: Concatenate(["a"], "d"), "not as one: ['a'], 'd'"),
    "no input": (lambda: Concatenate([], ["d"]), "a node reads and makes at least one tensor, not [] and ['d']"),
    "no output": (lambda: Concatenate(["a"], []), "not ['a'] and []"),
    "no kernel": (lambda: ConvPass(*IO, 1, 1, []), "b: kernel_sizes needs kernels of one dimension, not []"),
    "mixed kernels": (lambda: ConvPass(*IO, 1, 1, [(3, 3), (3, 3, 3)]), "not [(3, 3), (3, 3, 3)]"),
    "half a voxel": (
        lambda: ConvPass(*IO, 1, 1, [(3, 2), (3, 3)]),
        "b: kernels [(3, 2), (3, 3)] take [4, 3] voxels off the axes; an odd number would shift the output by half",
    ),
    "one axis": (lambda: ConvPass(*IO, 1, 1, [(3,)]), "a kernel has 2 or 3 axes of at least one voxel, not (3,)"),
    "empty kernel": (lambda: ConvPass(*IO, 1, 1, [(3, -1)]), "at least one voxel, not (3, -1)"),
    "padding": (lambda: ConvPass(*IO, 1, 1, [(3, 3)], padding="full"), "b: padding is 'valid' or 'same', not 'full'"),
    "even same": (
        lambda: ConvPass(*IO, 1, 1, [(2, 3), (2, 3)], padding="same"),
        "b: with padding 'same', even kernels, here [(2, 3), (2, 3)], would shift the output",
    ),
    "padding mode": (lambda: ConvPass(*IO, 1, 1, [(3, 3)], padding="same", padding_mode="wrap"), "padding_mode='wrap'"),
    "activation": (lambda: ConvPass(*IO, 1, 1, [(3, 3)], activation="Relu"), "torch.nn has no activation 'Relu'"),
    "no activation": (lambda: ConvPass(*IO, 1, 1, [(3, 3)], activation="Module"), "no activation 'Module'"),
    "norm": (
        lambda: ConvPass(*IO, 1, 1, [(3, 3)], norm_layer="layer"),
        "'layer' is none of 'batch', 'instance', 'group'",
    ),
    "dropout": (lambda: ConvPass(*IO, 1, 1, [(3, 3)], dropout_prob=1.5), "1.5"),
    "squeeze ratio": (
        lambda: ConvPass(*IO, 1, 1, [(3, 3)], squeeze_ratio=0),
        "b: squeeze_ratio is a whole number from 1",
    ),
    "pool mode": (lambda: Pool(*IO, (2, 2), "median"), "b: mode is one of ['max', 'mean'], not 'median'"),
    "zero factor": (lambda: Pool(*IO, (2, 0)), "b: the factor has 2 or 3 axes of whole numbers from 1 up, not (2, 0)"),
    "broken factor": (lambda: Upsample(*IO, (2, 1.5)), "not (2, 1.5)"),
    "one factor": (lambda: TransposedConv(*IO, 1, 1, (2,)), "not (2,)"),
    "off centre": (
        lambda: StridedConv(*IO, 1, 1, (2, 2), (3, 4)),
        "b: kernel (3, 4) and factor (2, 2) have to differ by an even number of voxels on every axis",
    ),
    "kernel axes": (lambda: StridedConv(*IO, 1, 1, (2, 2), (2, 2, 2)), "b: kernel (2, 2, 2) and factor (2, 2)"),
    "strided channels": (
        lambda: LeibNet([StridedConv(*IO, 2, 1, (2, 2))], {"a": TensorSpec((8, 8), 1)}, ["b"]),
        "node 'b' cannot work on 'a' (1 channels of 8 × 8 nm): it takes 2 channels, its input has 1",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_node_can_be_is_refused(name):
    build, message = WRONG[name]
    with pytest.raises(ValueError) as caught:
        build()
    assert message in str(caught.value)


def test_a_kind_cannot_take_the_name_of_another():
    with pytest.raises(TypeError, match=r"node kind Pool: scalenet_gp\.kinds\.pool has one of that name"):
        type(Pool)("Pool", (Pool,), {"__module__": __name__})
    assert type(node_of_kind("Pool", input_keys=["a"], output_keys=["b"], factor=[2, 2])) is Pool
