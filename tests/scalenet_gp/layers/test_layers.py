"""Convolution passes, resampling and concatenation, each kind by itself: its rules, and what it computes."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from scipy.ndimage import map_coordinates
from torch import nn

from scalenet_gp import LeibNet, TensorSpec
from scalenet_gp.graph.node import build_node
from scalenet_gp.layers import Concatenate, ConvPass, Pool, StridedConv, TransposedConv, Upsample
from scalenet_gp.testing import NodeCase, NodeTester, random_inputs
from tests.scalenet_gp.helpers import centres, ramps

IO = (["a"], ["b"])
TWO = {"a": TensorSpec((8, 8, 8), 2)}


def conv_pass(*kernels: tuple[int, int, int], nc: int = 4, **arguments: object) -> NodeCase:
    """A pass of two channels; kernels and dilations are of three axes, of which the last is left out in two."""
    dilations = arguments.pop("dilations", None)

    def build(dims: int) -> ConvPass:
        if dilations is not None:
            arguments["dilations"] = [step[:dims] for step in dilations]
        return ConvPass(*IO, 2, nc, [kernel[:dims] for kernel in kernels], **arguments)

    return NodeCase(build, TWO, smallest=2 if arguments.get("padding") == "same" else 1)


THREE = (3, 3, 3)


class TestConvPass(NodeTester):
    cases: ClassVar = {
        "plain": conv_pass(THREE, THREE),
        "anisotropic": conv_pass((3, 1, 5), (1, 3, 1)),
        "even": conv_pass((2, 3, 4), (4, 1, 2), nc=2),
        "other activations": conv_pass(THREE, (1, 1, 1), activation="GELU", final_activation="Softmax"),
        "same": conv_pass(THREE, THREE, padding="same"),
        "same, zeros": conv_pass(THREE, padding="same", padding_mode="zeros"),
        "same and nothing to pad": conv_pass((1, 1, 1), padding="same"),
        "residual": conv_pass((3, 1, 3), THREE, residual=True),
        "batch": conv_pass(THREE, (1, 3, 1), norm_layer="batch"),
        "instance": conv_pass(THREE, THREE, norm_layer="instance"),
        "group": conv_pass(THREE, THREE, norm_layer="group"),
        "calibrated group": conv_pass(THREE, (1, 3, 1), norm_layer="calibrated_group"),
        "dropout": conv_pass(THREE, (1, 3, 1), dropout_prob=0.3),
        "squeeze and excitation": conv_pass(THREE, THREE, nc=8, squeeze_excitation=True),
        "efficient channel attention": conv_pass(THREE, THREE, eca=True),
        "dilated": conv_pass(THREE, (2, 3, 3), dilations=[(1, 2, 3), (2, 1, 2)]),
        "dilated, same": conv_pass((3, 2, 3), padding="same", dilations=[(1, 2, 1)]),
        "grouped": conv_pass(THREE, THREE, groups=2),
        "separable": conv_pass(THREE, (1, 3, 1), separable=True),
        "all together": conv_pass(
            THREE,
            (1, 3, 1),
            nc=8,
            activation="LeakyReLU",
            residual=True,
            norm_layer="batch",
            dropout_prob=0.3,
            squeeze_excitation=True,
            separable=True,
            dilations=[(2, 1, 1), (1, 1, 1)],
        ),
    }
    wrong: ClassVar = {
        "no kernel": (lambda: ConvPass(*IO, 1, 1, []), "b: kernel_sizes needs kernels of one dimension, not []"),
        "empty kernels": (lambda: ConvPass(*IO, 1, 1, [()]), "kernels of one dimension, not [()]"),
        "mixed kernels": (lambda: ConvPass(*IO, 1, 1, [(3, 3), (3, 3, 3)]), "not [(3, 3), (3, 3, 3)]"),
        "half a voxel": (
            lambda: ConvPass(*IO, 1, 1, [(3, 2), (3, 3)]),
            "b: kernels [(3, 2), (3, 3)] take [4, 3] voxels off the axes; an odd number would shift the output by half",
        ),
        "half a voxel by dilation": (
            lambda: ConvPass(*IO, 1, 1, [(2, 2)] * 2, dilations=[(2, 1), (1, 1)]),
            "b: kernels [(2, 2), (2, 2)] of dilations [(2, 1), (1, 1)] take [3, 2] voxels off the axes",
        ),
        "one axis": (lambda: ConvPass(*IO, 1, 1, [(3,)]), "a kernel has 2 or 3 axes of at least one voxel, not (3,)"),
        "negative kernel": (lambda: ConvPass(*IO, 1, 1, [(3, -1)]), "at least one voxel, not (3, -1)"),
        "padding": (
            lambda: ConvPass(*IO, 1, 1, [(3, 3)], padding="full"),
            "ConvPass ['b']: padding is 'full': it has to be 'valid' or 'same'",
        ),
        "even same": (
            lambda: ConvPass(*IO, 1, 1, [(2, 3), (2, 3)], padding="same"),
            "b: with padding 'same', even kernels, here [(2, 3), (2, 3)], would shift the output",
        ),
        "padding mode": (
            lambda: ConvPass(*IO, 1, 1, [(3, 3)], padding="same", padding_mode="wrap"),
            "b: padding_mode is one of ['circular', 'reflect', 'replicate', 'zeros'], not 'wrap'",
        ),
        "padding mode without padding": (
            lambda: ConvPass(*IO, 1, 1, [(3, 3)], padding_mode="nonsense"),
            "b: padding_mode is one of ['circular', 'reflect', 'replicate', 'zeros'], not 'nonsense'",
        ),
        "activation": (lambda: ConvPass(*IO, 1, 1, [(3, 3)], activation="Relu"), "torch.nn has no activation 'Relu'"),
        "empty activation": (lambda: ConvPass(*IO, 1, 1, [(3, 3)], activation=""), "torch.nn has no activation ''"),
        "empty final activation": (
            lambda: ConvPass(*IO, 1, 1, [(3, 3)], final_activation=""),
            "torch.nn has no activation ''",
        ),
        "no activation": (lambda: ConvPass(*IO, 1, 1, [(3, 3)], activation="Module"), "no activation 'Module'"),
        "norm": (
            lambda: ConvPass(*IO, 1, 1, [(3, 3)], norm_layer="weight"),
            "norm_layer is one of 'batch', 'instance', 'group', 'calibrated_group', 'layer', not 'weight'",
        ),
        "norms": (
            lambda: ConvPass(*IO, 1, 1, [(3, 3)], norm_layer=["batch", None]),
            "b: norm_layer has one value, or one for each of the 1 convolutions, not",
        ),
        "channels of each": (
            lambda: ConvPass(*IO, 1, [1, 2, 3], [(3, 3)] * 2),
            "b: output_nc has one value, or one for each of the 2 convolutions, not",
        ),
        "no channel": (
            lambda: ConvPass(*IO, 1, [0, 1], [(3, 3)] * 2),
            "b: output_nc is a whole number from 1 up, not 0",
        ),
        "dropout": (lambda: ConvPass(*IO, 1, 1, [(3, 3)], dropout_prob=1.5), "1.5"),
        "squeeze ratio": (
            lambda: ConvPass(*IO, 1, 1, [(3, 3)], squeeze_ratio=0),
            "b: squeeze_ratio is a whole number from 1",
        ),
        "both attentions": (
            lambda: ConvPass(*IO, 1, 1, [(3, 3)], squeeze_excitation=True, eca=True),
            "b: choose either squeeze_excitation or eca",
        ),
        "attention nowhere": (
            lambda: ConvPass(*IO, 1, 1, [(3, 3)], squeeze_ratio=1, eca=True),
            "b: with squeeze_ratio 1 there is no convolution for eca to follow",
        ),
        "too few dilations": (
            lambda: ConvPass(*IO, 1, 1, [(3, 3)] * 2, dilations=[(1, 1)]),
            "b: dilations needs whole numbers from 1 up, one per axis of each of the kernels [(3, 3), (3, 3)], not "
            "[(1, 1)]",
        ),
        "dilation axes": (lambda: ConvPass(*IO, 1, 1, [(3, 3)], dilations=[(1,)]), "not [(1,)]"),
        "zero dilation": (lambda: ConvPass(*IO, 1, 1, [(3, 3)], dilations=[(1, 0)]), "not [(1, 0)]"),
        "groups of one channel": (
            lambda: ConvPass(*IO, 1, 4, [(3, 3)], groups=2),
            "b: groups has to divide the channels of every convolution, 1 and 4; 1 is the largest that does, 2 does",
        ),
        "groups of the output": (lambda: ConvPass(*IO, 6, 4, [(3, 3)], groups=3), "6 and 4; 2 is the largest"),
        "no group": (lambda: ConvPass(*IO, 2, 4, [(3, 3)], groups=0), "b: groups is a whole number from 1 up, not 0"),
        "groups that are no whole number": (
            lambda: ConvPass(*IO, 2, 4, [(3, 3)], groups=2.0),
            "groups is 2.0: it has to be a valid integer",
        ),
        "channels that are no whole number": (
            lambda: ConvPass(*IO, 2, 4.5, [(3, 3)]),
            "output_nc is 4.5: it has to be a valid integer",
        ),
        "dilations that are no whole numbers": (
            lambda: ConvPass(*IO, 2, 4, [(3, 3)], dilations=[(2.0, 1)]),
            "dilations[0][0] is 2.0: it has to be a valid integer",
        ),
        "separable groups": (
            lambda: ConvPass(*IO, 2, 4, [(3, 3)], groups=2, separable=True),
            "b: a separable pass has its own groups; leave out groups=2",
        ),
        "channels": (
            lambda: LeibNet([ConvPass(*IO, 2, 1, [(3, 3)])], {"a": TensorSpec((8, 8), 1)}, ["b"]),
            "node 'b' cannot work on 'a' (1 channels of 8 × 8 nm): it takes 2 channels, its input has 1",
        ),
        "axes": (
            lambda: LeibNet([ConvPass(*IO, 1, 1, [(3, 3)])], {"a": TensorSpec((8, 8, 8), 1)}, ["b"]),
            "its kernels have 2 axes, its input has 3",
        ),
    }


class TestPool(NodeTester):
    cases: ClassVar = {
        f"{mode} of {factor}": NodeCase(lambda dims, f=factor, m=mode: Pool(*IO, f[:dims], m), TWO)
        for mode in ("max", "mean")
        for factor in ((2, 2, 2), (1, 3, 2))
    }
    wrong: ClassVar = {
        "mode": (lambda: Pool(*IO, (2, 2), "median"), "mode is 'median': it has to be 'max' or 'mean'"),
        "zero": (lambda: Pool(*IO, (2, 0)), "b: the factor has 2 or 3 axes of whole numbers from 1 up, not (2, 0)"),
        "axes": (
            lambda: LeibNet([Pool(*IO, (2, 2))], {"a": TensorSpec((8, 8, 8), 1)}, ["b"]),
            "its factor has 2 axes, its input has 3",
        ),
    }


def strided(factor: tuple[int, ...], kernel: tuple[int, ...] | None = None, **arguments: object) -> NodeCase:
    def build(dims: int) -> StridedConv:
        return StridedConv(*IO, 2, 4, factor[:dims], None if kernel is None else kernel[:dims], **arguments)

    return NodeCase(build, TWO)


class TestStridedConv(NodeTester):
    cases: ClassVar = {
        "plain": strided((2, 3, 1)),
        "wide kernel": strided((2, 3, 1), (4, 5, 3)),
        "narrow kernel": strided((3, 4, 2), (1, 2, 2)),
        "linear": strided((2, 2, 2), activation=None),
        "batch": strided((2, 2, 2), norm_layer="batch"),
        "instance": strided((2, 2, 2), norm_layer="instance", activation="ELU"),
        "group": strided((2, 2, 2), norm_layer="group"),
    }
    # a single voxel cannot be normalised by itself
    cases["instance"] = replace(cases["instance"], smallest=2)
    wrong: ClassVar = {
        "off centre": (
            lambda: StridedConv(*IO, 1, 1, (2, 2), (3, 4)),
            "b: kernel (3, 4) and factor (2, 2) have to differ by an even number of voxels on every axis",
        ),
        "kernel axes": (lambda: StridedConv(*IO, 1, 1, (2, 2), (2, 2, 2)), "b: kernel (2, 2, 2) and factor (2, 2)"),
        "norm": (lambda: StridedConv(*IO, 1, 1, (2, 2), norm_layer="weight"), "norm_layer is one of"),
        "channels": (
            lambda: LeibNet([StridedConv(*IO, 2, 1, (2, 2))], {"a": TensorSpec((8, 8), 1)}, ["b"]),
            "node 'b' cannot work on 'a' (1 channels of 8 × 8 nm): it takes 2 channels, its input has 1",
        ),
    }


class TestTransposedConv(NodeTester):
    cases: ClassVar = {
        "plain": NodeCase(lambda dims: TransposedConv(*IO, 2, 3, (2, 3, 1)[:dims]), TWO),
        "activation": NodeCase(lambda dims: TransposedConv(*IO, 2, 3, (1, 2, 2)[:dims], activation="ReLU"), TWO),
    }
    wrong: ClassVar = {
        "one axis": (lambda: TransposedConv(*IO, 1, 1, (2,)), "b: the factor has 2 or 3 axes"),
        "activation": (lambda: TransposedConv(*IO, 1, 1, (2, 2), activation="GLU"), "it halves the channels"),
    }


class TestUpsample(NodeTester):
    cases: ClassVar = {
        f"{mode} by {factor}": NodeCase(lambda dims, f=factor, m=mode: Upsample(*IO, f[:dims], m), TWO)
        for mode, factor in [
            ("nearest", (2, 2, 2)),
            ("nearest", (3, 1, 2)),
            ("linear", (1, 1, 2)),
            ("linear", (2, 2, 2)),
            ("linear", (3, 2, 1)),
            ("linear", (3, 3, 3)),
            ("linear", (4, 5, 1)),
            ("linear", (5, 1, 4)),
        ]
    }
    wrong: ClassVar = {
        "mode": (lambda: Upsample(*IO, (2, 2), "cubic"), "mode is 'cubic': it has to be 'nearest' or 'linear'"),
        "factor": (lambda: Upsample(*IO, (2, 1.5)), "factor[1] is 1.5: it has to be a valid integer"),
        "name": (lambda: Upsample(["a", "c"], ["b"], (2, 2)), "a Upsample reads 1 tensor(s), not ['a', 'c']"),
    }


class TestConcatenate(NodeTester):
    cases: ClassVar = {
        "one": NodeCase(lambda dims: Concatenate(*IO), TWO),
        "three": NodeCase(
            lambda dims: Concatenate(["a", "c", "d"], ["b"]),
            {**TWO, "c": TensorSpec((8, 8, 8), 1), "d": TensorSpec((8, 8, 8), 3)},
        ),
    }
    wrong: ClassVar = {
        "one name": (
            lambda: Concatenate("abc", ["d"]),
            "input_keys is 'abc': it has to be a list",
        ),
        "one name made": (lambda: Concatenate(["a"], "d"), "output_keys is 'd': it has to be a list"),
        "no input": (lambda: Concatenate([], ["d"]), "a node reads and makes at least one tensor, not [] and ['d']"),
        "no output": (lambda: Concatenate(["a"], []), "not ['a'] and []"),
        "voxel sizes": (
            lambda: LeibNet(
                [Concatenate(["a", "c"], ["b"])], {"a": TensorSpec((8, 8), 1), "c": TensorSpec((8, 4), 1)}, ["b"]
            ),
            "the tensors it joins have to share one voxel size: 'a' 8 × 8 nm, 'c' 8 × 4 nm",
        ),
    }


def kinds_of(node: ConvPass) -> list[str]:
    """The names of the layers; a convolution that is one of torch's is called so."""
    derived = (nn.Conv2d, nn.Conv3d)
    return [next((k.__name__ for k in derived if isinstance(layer, k)), type(layer).__name__) for layer in node.layers]


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
    assert isinstance(node.layers[0], getattr(nn, kind if kind == "GroupNorm" else f"{kind}{dims}d"))
    if kind == "GroupNorm":
        assert [layer.num_groups for layer in node.layers if isinstance(layer, nn.GroupNorm)] == [3, 6]


def test_each_convolution_may_have_its_own_channels_and_normalization():
    node = ConvPass(*IO, 3, [4, 2], [(3, 3), (1, 1)], norm_layer=[None, "batch"], residual=True)
    assert kinds_of(node) == ["Conv2d", "BatchNorm2d", "Conv2d"]
    assert (node.layers[1].num_features, node.output_channels(3), node.projection.out_channels) == (4, (2,), 2)
    assert node(torch.rand(2, 3, 5, 5)).shape == (2, 2, 3, 3)


@pytest.mark.parametrize("name", ["activation", "final_activation"])
def test_a_pass_without_activation_is_linear(name):
    node = ConvPass(*IO, 1, 2, [(1, 1)], **{"final_activation": "Identity", name: None} | {"activation": None})
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(node(-x), -node(x))


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


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_mean_pooling_is_that_of_torch_and_channels_last(dtype, batch):
    """Float32 agrees, also for a crop, and bfloat16, which torch does not pool on a CPU, to its rounding."""
    x = torch.randn(batch, 3, 6, 9, 8).contiguous(memory_format=torch.channels_last_3d)[:, :, 2:, 3:]
    made = Pool(*IO, (2, 3, 4), "mean")(x.to(dtype))
    torch.testing.assert_close(made, nn.functional.avg_pool3d(x, (2, 3, 4)).to(dtype), rtol=1e-2, atol=1e-2)
    assert made.is_contiguous(memory_format=torch.channels_last_3d)


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


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 7])
def test_linear_upsampling_of_a_ramp_is_the_ramp(factor, dims):
    """World coordinates of coarse voxel centres become those of fine ones."""
    factors = (factor, 2, 1)[:dims]
    net = LeibNet([Upsample(*IO, factors, "linear")], {"a": TensorSpec((420, 8, 8)[:dims], 1)}, ["b"])
    size = net.voxel_size["b"]
    plan = net.plan({"b": Roi(size * -5, size * Coordinate((9, 4, 5)[:dims]))})
    made = net(ramps(plan, net), plan)["b"]
    torch.testing.assert_close(made, centres(plan.outputs["b"], size).double(), rtol=1e-12, atol=1e-9)


def test_linear_upsampling_by_scipy():
    net = LeibNet([Upsample(*IO, (3, 2), "linear")], {"a": TensorSpec((6, 4), 1)}, ["b"])
    plan = net.plan({"b": Roi((-4, 2), (18, 14))})
    (inputs,) = random_inputs(plan).values()
    roi = plan.inputs["a"]
    where = [
        (axis - first) / size - 0.5
        for axis, first, size in zip(
            centres(plan.outputs["b"], net.voxel_size["b"])[:, 0], roi.begin, (6, 4), strict=True
        )
    ]
    expected = map_coordinates(inputs[0, 0].numpy(), [axis.numpy() for axis in where], order=1, mode="nearest")
    np.testing.assert_allclose(net({"a": inputs}, plan)["b"][0, 0].numpy(), expected, rtol=1e-12, atol=1e-12)


def test_dilation_groups_and_separation_by_plain_sums():
    x = torch.randn(1, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    grouped = ConvPass(*IO, 4, 6, [(3, 2)], dilations=[(3, 2)], groups=2, activation="Identity")
    weight = grouped.layers[0].weight.detach()
    assert weight.shape == (6, 2, 3, 2)
    assert tuple(grouped.margin) == (3, 1)
    expected = sum(
        torch.einsum(
            "goc,gcyx->goyx",
            weight[..., i, j].reshape(2, 3, 2),
            x[0, :, 3 * i :, 2 * j :][:, :3, :6].reshape(2, 2, 3, 6),
        )
        for i in range(3)
        for j in range(2)
    )
    torch.testing.assert_close(grouped(x).detach(), expected.reshape(1, 6, 3, 6))
    separable = ConvPass(*IO, 4, 6, [(3, 3)], separable=True, activation="Identity")
    depthwise, pointwise = separable.layers[0]
    assert sum(p.numel() for p in separable.parameters()) == 4 * 9 + 4 * 6 + 6
    full = torch.einsum("oc,cyx->ocyx", pointwise.weight[..., 0, 0], depthwise.weight[:, 0])
    torch.testing.assert_close(separable(x), nn.functional.conv2d(x, full), rtol=1e-4, atol=1e-4)


def test_a_kind_cannot_take_the_name_of_another():
    with pytest.raises(TypeError, match=r"node kind Pool: scalenet_gp\.layers\.downsampling has one of that name"):
        type(Pool)("Pool", (Pool,), {"__module__": __name__})
    assert type(build_node("Pool", input_keys=["a"], output_keys=["b"], factor=[2, 2])) is Pool
