"""U-Nets and ScaleNets: LeibNetz's arguments, and what is refused."""

from __future__ import annotations

import json
import re
from collections import deque
from fractions import Fraction

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from scalenet_gp import LeibNet, build_attentive_scalenet, build_autoencoder, build_scalenet, build_unet
from scalenet_gp.layers import (
    AtrousPyramid,
    AttentionGate,
    Concatenate,
    ConvPass,
    GatedSum,
    Head,
    Pool,
    ScaleAttention,
    StridedConv,
    Sum,
    TransformerBlock,
    TransposedConv,
    Upsample,
)
from scalenet_gp.networks import UNetOptions
from scalenet_gp.testing import odd_twins, random_inputs, randomize

LINEAR = {"activation": "Identity", "final_activation": "Identity"}


def channels(net) -> dict[str, int]:
    return {key: spec.channels for key, spec in net.specs.items()}


def two_scales(coarse, **arguments) -> list[dict]:
    """A subnet of ``coarse`` nm and one of 8 nm, whose bottleneck has 32 nm."""
    coarse = (coarse, coarse) if isinstance(coarse, int | Fraction) else coarse
    return [{"top_resolution": coarse, "base_nc": 2}, {"top_resolution": (8, 8), "base_nc": 3, **arguments}]


def showing(net: LeibNet, *also: str) -> LeibNet:
    """A copy of ``net`` that shows tensors in between, too."""
    nodes = [type(node)(**node.arguments) for node in net.nodes.values()]
    copy = LeibNet(nodes, {key: net.specs[key] for key in net.input_keys}, [*net.output_keys, *also])
    copy.load_state_dict(net.state_dict())
    return copy.to(torch.float64).eval()


def test_a_unet_unless_told_otherwise():
    net = build_unet()
    assert (net.input_keys, net.output_keys, net.dims) == (("input",), ("output",), 3)
    assert {key: net.voxel_size[key][0] for key in net.nodes} == {
        **dict.fromkeys(("in_conv_0", "upsample_0", "join_0", "out_conv_0", "output"), 8),
        **dict.fromkeys(("downsample_0", "in_conv_1", "upsample_1", "join_1", "out_conv_1"), 16),
        **dict.fromkeys(("downsample_1", "bottleneck"), 32),
    }
    assert channels(net) == {
        "input": 1,
        "in_conv_0": 12,
        "downsample_0": 12,
        "in_conv_1": 24,
        "downsample_1": 24,
        "bottleneck": 48,
        "upsample_1": 48,
        "join_1": 72,
        "out_conv_1": 24,
        "upsample_0": 24,
        "join_0": 36,
        "out_conv_0": 12,
        "output": 1,
    }
    assert all(node.arguments["kernel_sizes"] == [[3] * 3] * 2 for k, node in net.nodes.items() if "conv" in k)
    assert type(net.nodes["output"].final_activation).__name__ == "Sigmoid"
    assert net.nodes["downsample_0"].arguments["mode"] == "max"
    assert isinstance(net.nodes["upsample_0"], Upsample)


def test_every_argument_arrives():
    net = build_unet(
        (40, 4, 4),
        downsample_factors=[(1, 2, 2), (1, 3, 3), (2, 1, 1)],
        kernel_sizes=[(1, 3, 3), (3, 3, 3), (1, 1, 1)],
        input_nc=2,
        output_nc=5,
        base_nc=3,
        nc_increase_factor=3,
        num_final_convs=2,
        hidden_nc=7,
        norm_layer="instance",
        normalize_input=True,
        residual=True,
        dropout_prob=0.25,
        squeeze_excitation=True,
        squeeze_ratio=3,
        activation="GELU",
        final_activation="Tanh",
        downsample_mode="strided",
        upsample_mode="transposed",
    )
    assert net.voxel_size["bottleneck"] == Coordinate(80, 24, 24)
    assert [channels(net)[k] for k in ("input", "in_conv_0", "in_conv_2", "bottleneck", "output")] == [2, 3, 27, 81, 5]
    passes = [node for node in net.nodes.values() if isinstance(node, ConvPass)]
    assert len(passes) == 8
    for node in passes:
        told = {k: node.arguments[k] for k in ("norm_layer", "residual", "dropout_prob", "squeeze_excitation")}
        assert told == {"norm_layer": "instance", "residual": True, "dropout_prob": 0.25, "squeeze_excitation": True}
        assert (node.arguments["squeeze_ratio"], node.arguments["activation"]) == (3, "GELU")
        final = node.identifier == "output"
        assert not final or node.arguments["output_nc"] == [7, 5]
        assert node.arguments["kernel_sizes"] == ([[1, 1, 1]] * 2 if final else [[1, 3, 3], [3, 3, 3], [1, 1, 1]])
        assert type(node.final_activation).__name__ == ("Tanh" if final else "GELU")
    assert isinstance(net.nodes["downsample_1"], StridedConv)
    assert isinstance(net.nodes["upsample_2"], TransposedConv)
    assert net.nodes["upsample_2"].factor == (2, 1, 1)
    assert len(build_unet((8, 8), convs_per_level=3).nodes["bottleneck"].arguments["kernel_sizes"]) == 3
    assert isinstance(build_unet((8, 8), downsample_mode="mean").nodes["downsample_0"], Pool)


def test_the_input_is_not_normalized_unless_asked_for():
    def norms(net, name):
        return [type(layer).__name__ for layer in net.nodes[name].layers if "Norm" in type(layer).__name__]

    options = {"base_nc": 2, "norm_layer": "batch", "downsample_factors": [(2, 2)]}
    net = build_scalenet([{"top_resolution": (nm, nm), **options} for nm in (16, 8)])
    assert norms(net, "0_in_conv_0") == norms(net, "1_in_conv_0") == ["BatchNorm2d"]
    assert norms(net, "1_bottleneck") == norms(net, "1_out_conv_0") == ["BatchNorm2d"] * 2
    assert norms(build_unet((8, 8), normalize_input=True, **options), "in_conv_0") == ["BatchNorm2d"] * 2
    autoencoder = build_autoencoder((8, 8), latent_nc=2, **options)
    assert norms(autoencoder, "in_conv_0") == ["BatchNorm2d"]
    assert "normalize_input" not in net.nodes["0_in_conv_0"].arguments  # networks of older files have the same nodes


def gets_gradient(seed, **arguments):
    """True if the first pass of a network of one class learns from the gradient of its output."""
    torch.manual_seed(seed)
    options = {"base_nc": 8, "downsample_factors": [(2, 2)], "num_final_convs": 3, "norm_layer": None}
    net = build_unet((8, 8), **options, **arguments)
    net(random_inputs(net.smallest_plan, torch.float32), net.smallest_plan)["output"].sum().backward()
    return any(bool(parameter.grad.any()) for parameter in net.nodes["in_conv_0"].parameters())


def test_hidden_channels_keep_networks_of_one_class_alive():
    assert all(gets_gradient(seed) for seed in range(20))
    assert sum(gets_gradient(seed, hidden_nc=1) for seed in range(8)) < 4  # as LeibNetz has them


def test_a_scalenet_unless_told_otherwise():
    net = build_scalenet()
    assert net.input_keys == ("0_input", "1_input")
    assert net.output_keys == ("0_output", "1_output")
    assert [net.voxel_size[key][0] for key in net.output_keys] == [32, 8]
    assert net.nodes["1_bottleneck_join"].input_keys == ("1_downsample_1", "0_out_conv_0")
    assert channels(net)["1_bottleneck_join"] == 24 + 12
    assert "0_bottleneck_join" not in net.nodes


def test_subnets_of_their_own_kind():
    net = build_scalenet(
        [
            {"top_resolution": (64, 16, 16), "base_nc": 2, "output_nc": 3, "subnet_id": "wide"},
            {"top_resolution": (32, 4, 4), "base_nc": 5, "input_nc": 2, "downsample_factors": [(1, 2, 2), (2, 2, 2)]},
            {"top_resolution": (32, 2, 2), "base_nc": 1, "downsample_factors": [(1, 2, 2)]},
        ]
    )
    assert net.input_keys == ("wide_input", "1_input", "2_input")
    assert channels(net)["wide_output"] == 3
    assert channels(net)["1_bottleneck_join"] == 10 + 2
    assert channels(net)["2_bottleneck_join"] == 1 + 5
    assert channels(net)["1_input"] == 2


def test_any_depth_of_hierarchy():
    net = build_scalenet([{"top_resolution": (2**n, 2**n), "base_nc": 1} for n in (11, 9, 7, 5, 3)])
    assert net.output_keys == tuple(f"{index}_output" for index in range(5))
    alone = net.plan({"4_output": Roi((0, 0), (8, 8))})
    assert tuple(alone.inputs) == net.input_keys


JOINS = {
    "concatenate": (Concatenate, 6 + 2),
    "sum": (Sum, 6),
    "gated_sum": (GatedSum, 6),
    "attention": (ScaleAttention, 6),
}


@pytest.mark.parametrize("join", JOINS)
def test_how_coarse_features_enter_a_bottleneck(join):
    kind, nc = JOINS[join]
    node = build_scalenet(two_scales(32, bottleneck_join=join)).nodes["1_bottleneck_join"]
    assert type(node) is kind
    assert node.input_keys == ("1_downsample_1", "0_out_conv_0")
    assert node.output_specs(*(build_scalenet(two_scales(32)).specs[key] for key in node.input_keys))[0].channels == nc


RATIOS = {
    (32, 32): ([], [], "0_out_conv_0"),
    (64, 96): ([], [2, 3], "1_bottleneck_upsample"),
    (8, 16): ([4, 2], [], "1_bottleneck_pool"),
    (16, 64): ([2, 1], [1, 2], "1_bottleneck_upsample"),
    (Fraction(32, 3), 32): ([3, 1], [], "1_bottleneck_pool"),
}


@pytest.mark.parametrize("coarse", RATIOS)
def test_features_of_any_ratio_enter_where_they_lie(coarse):
    """The mean of the features over each bottleneck voxel enters, or the feature that it lies in."""
    pooled, repeated, entering = RATIOS[coarse]
    net = build_scalenet(two_scales(coarse, bottleneck_join="sum"))
    assert net.nodes["1_bottleneck_join"].input_keys == ("1_downsample_1", entering)
    made = {key for key in net.nodes if key in ("1_bottleneck_pool", "1_bottleneck_upsample")}
    assert made == {
        key for key, factor in [("1_bottleneck_pool", pooled), ("1_bottleneck_upsample", repeated)] if factor
    }
    net = showing(randomize(net), entering, *({"0_out_conv_0"} - {entering}))
    roi = Roi((-192, -192), (384, 384)) * int(1 / net.unit)
    plan = net.plan({"0_out_conv_0": roi, entering: roi})
    with torch.no_grad():
        tensors = net(random_inputs(plan), plan)
    features = tensors["0_out_conv_0"]
    if pooled:
        features = functional.avg_pool2d(features, pooled)
    for axis, factor in enumerate(repeated):
        features = features.repeat_interleave(factor, dim=2 + axis)
    torch.testing.assert_close(tensors[entering], features)
    assert net.voxel_size[entering] * net.unit == Coordinate(32, 32)


@given(st.fractions(min_value=2, max_value=200, max_denominator=6))
@settings(max_examples=40)
def test_voxel_sizes_that_do_not_fit_are_answered_with_the_nearest_that_do(coarse):
    try:
        build_scalenet(two_scales((coarse, 32)))
    except ValueError as error:
        proposed = [Fraction(size) for size in re.findall(r"(\S+) nm(?: or| there)", str(error))]
    else:
        assert 1 in ((coarse / 32).numerator, (coarse / 32).denominator)
        return
    fitting = [Fraction(32, n) for n in range(1, 40)] + [Fraction(32) * n for n in range(1, 10)]
    assert proposed == [max(f for f in fitting if f < coarse), min(f for f in fitting if f > coarse)]
    for size in proposed:
        build_scalenet(two_scales((size, 32)))


def test_attention_gates_on_every_skip_connection():
    net = build_unet((8, 8), base_nc=2, attention_gates=True)
    for level in (0, 1):
        gate = net.nodes[f"attention_gate_{level}"]
        assert isinstance(gate, AttentionGate)
        assert gate.input_keys == (f"in_conv_{level}", f"upsample_{level}")
        assert net.nodes[f"join_{level}"].input_keys == (f"upsample_{level}", f"attention_gate_{level}")
    attentive = build_attentive_scalenet(two_scales(32, attention_gates=False))
    assert {key for key in attentive.nodes if "gate" in key} == {"0_attention_gate_0", "0_attention_gate_1"}
    assert attentive.name == "AttentiveScaleNet"
    assert "1_attention_gate_1" in build_attentive_scalenet().nodes


@pytest.mark.parametrize("opened", [True, False])
def test_open_gates_make_the_unet_without_them_and_closed_ones_one_without_skips(opened):
    options = {"base_nc": 2, "final_activation": "Identity", "norm_layer": None}
    plain = randomize(build_unet((8, 8), **options))
    gated = build_unet((8, 8), **options, attention_gates=True).to(torch.float64).eval()
    missing = gated.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert all("attention_gate" in key for key in missing)
    with torch.no_grad():
        for level, nc in enumerate((2, 4)):
            gated.nodes[f"attention_gate_{level}"].psi.bias.fill_(60.0 if opened else -800.0)
            gated.nodes[f"attention_gate_{level}"].psi.weight.zero_()
            if not opened:
                first = plain.nodes[f"out_conv_{level}"].layers[0]
                first.weight[:, -nc:] = 0
    roi = {"output": Roi((0, 0), (64, 64))}
    inputs = random_inputs(plain.plan(roi))
    with torch.no_grad():
        expected, output = (net(inputs, net.plan(roi))["output"] for net in (plain, gated))
    torch.testing.assert_close(output, expected)


def test_deep_supervision_is_computed_where_it_is_asked_for():
    options = {"base_nc": 2, "output_nc": 3, "norm_layer": None}
    net = build_unet((8, 8), downsample_factors=[(2, 2)] * 3, **options, deep_supervision=True)
    assert net.output_keys == ("output", "output_1", "output_2")
    assert [net.voxel_size[key][0] for key in net.output_keys] == [8, 16, 32]
    assert [net.specs[key].channels for key in net.output_keys] == [3, 3, 3]
    alone = [step.node for step in net.plan({"output": Roi((0, 0), (64, 64))}).steps]
    assert not {"output_1", "output_2"} & set(alone)
    coarse = [step.node for step in net.plan({"output_2": Roi((0, 0), (64, 64))}).steps]
    assert not {"output", "output_1", "upsample_1", "upsample_0"} & set(coarse)
    net = showing(randomize(net), "out_conv_1")
    plan = net.plan({key: Roi((0, 0), (64, 64)) for key in ("output_1", "out_conv_1")})
    with torch.no_grad():
        tensors = net(random_inputs(plan), plan)
        convolution = net.nodes["output_1"].layers[0]
        expected = functional.conv2d(tensors["out_conv_1"], convolution.weight, convolution.bias).sigmoid()
    torch.testing.assert_close(tensors["output_1"], expected)


def test_heads_beside_the_output_and_in_its_place():
    heads = {"organelles": ["mito", "er"], "membrane": ["membrane"]}
    net = build_unet((8, 8), base_nc=4, heads=heads, num_final_convs=3, final_activation="Tanh", activation="GELU")
    assert net.output_keys == ("output", "organelles", "membrane")
    assert [net.specs[key].channels for key in net.output_keys] == [1, 2, 1]
    for name, classes in heads.items():
        node = net.nodes[name]
        assert isinstance(node, Head)
        told = {key: node.arguments[key] for key in ("classes", "hidden_nc", "activation", "final_activation")}
        assert told == {"classes": classes, "hidden_nc": [4, 4], "activation": "GELU", "final_activation": "Tanh"}
        assert node.input_keys == ("out_conv_0",)
    only = build_scalenet([{"top_resolution": (8, 8), "output_nc": 0, "heads": heads, "subnet_id": "s"}])
    assert only.output_keys == ("s_organelles", "s_membrane")


def test_heads_of_their_own_kind():
    one_of = {"classes": ("a", "b", "c"), "final_activation": "Softmax", "hidden_nc": [5], "activation": None}
    heads = {"any": ["er"], "one": one_of, "logits": {"classes": ["d"], "final_activation": "Identity"}}
    net = build_unet((8, 8), base_nc=4, heads=heads, num_final_convs=2)
    told = {
        name: [net.nodes[name].arguments[key] for key in ("classes", "hidden_nc", "activation", "final_activation")]
        for name in heads
    }
    assert told == {
        "any": [["er"], [4], "ReLU", "Sigmoid"],
        "one": [["a", "b", "c"], [5], None, "Softmax"],
        "logits": [["d"], [4], "ReLU", "Identity"],
    }
    net = showing(randomize(net), "out_conv_0")
    again = LeibNet.from_spec(json.loads(json.dumps(net.to_spec()))).to(torch.float64).eval()
    again.load_state_dict(net.state_dict())
    plan = net.plan(dict.fromkeys((*heads, "out_conv_0"), Roi((0, 0), (32, 32))))
    inputs = random_inputs(plan)
    with torch.no_grad():
        tensors, others = net(inputs, plan), again(inputs, plan)
        for name, activation in (("one", lambda x: x.softmax(dim=1)), ("logits", lambda x: x)):
            first, last = (layer for layer in net.nodes[name].layers if isinstance(layer, torch.nn.Conv2d))
            hidden = functional.conv2d(tensors["out_conv_0"], first.weight, first.bias)
            hidden = hidden if name == "one" else hidden.relu()
            torch.testing.assert_close(tensors[name], activation(functional.conv2d(hidden, last.weight, last.bias)))
    assert all(torch.equal(tensors[key], others[key]) for key in tensors)


def test_arrays_and_other_sequences_are_lists():
    given = {
        "kernel_sizes": np.array([[3, 3], [1, 1]]),
        "dilations": np.array([[2, 2], [1, 1]]),
        "base_nc": np.int64(2),
    }
    plain = {"kernel_sizes": [(3, 3), (1, 1)], "dilations": [(2, 2), (1, 1)], "base_nc": 2}
    factors = (range(2, 4), deque([2, 2]))
    net = build_unet(
        np.array([8.0, 4.6]), downsample_factors=factors, heads={"a": {"er": 1, "mito": 2}.keys()}, **given
    )
    same = build_unet((8, "4.6"), downsample_factors=[(2, 3), (2, 2)], heads={"a": ["er", "mito"]}, **plain)
    assert net.to_spec() == same.to_spec()
    assert LeibNet.from_spec(json.loads(json.dumps(net.to_spec()))).fingerprint == same.fingerprint


def test_a_block_after_the_bottleneck():
    atrous = build_unet((8, 8), base_nc=2, bottleneck="atrous", activation="GELU")
    assert isinstance(atrous.nodes["bottleneck_atrous"], AtrousPyramid)
    assert atrous.nodes["upsample_1"].input_keys == ("bottleneck_atrous",)
    assert atrous.nodes["bottleneck_atrous"].arguments["activation"] == "GELU"
    assert atrous.specs["bottleneck_atrous"] == atrous.specs["bottleneck"]
    assert atrous.tileable
    transformer = build_unet((8, 8), base_nc=3, nc_increase_factor=3, bottleneck="transformer", dropout_prob=0.25)
    block = transformer.nodes["bottleneck_transformer"]
    assert isinstance(block, TransformerBlock)
    assert {key: block.arguments[key] for key in ("input_nc", "num_heads", "dropout_prob")} == {
        "input_nc": 27,
        "num_heads": 1,
        "dropout_prob": 0.25,
    }
    assert build_unet((8, 8), bottleneck="transformer").nodes["bottleneck_transformer"].arguments["num_heads"] == 4
    assert not transformer.tileable


def test_what_is_for_convolutions_of_more_than_a_voxel_only():
    net = build_unet((8, 8), separable=True, eca=True, dilations=[(2, 2), (1, 1)], upsample_mode="linear")
    for node in net.nodes.values():
        if isinstance(node, ConvPass):
            told = [node.arguments[key] for key in ("separable", "eca", "dilations")]
            assert told == ([False, False, None] if node.identifier == "output" else [True, True, [[2, 2], [1, 1]]])
    assert net.nodes["upsample_1"].arguments["mode"] == "linear"


def test_an_autoencoder_sees_its_input_through_the_latent_tensor_alone():
    net = build_autoencoder((8, 8), latent_nc=3, input_nc=2, base_nc=4, final_activation="Identity")
    assert (net.input_keys, net.output_keys) == (("input",), ("output", "mean", "log_variance"))
    assert [net.specs[key].channels for key in net.output_keys] == [2, 3, 3]
    assert [net.voxel_size[key][0] for key in net.output_keys] == [8, 32, 32]
    randomize(net)
    plan = net.plan({"output": Roi((0, 0), (64, 64))})
    inputs = random_inputs(plan)
    for tensor in inputs.values():
        tensor.requires_grad_()
    net(inputs, plan)["output"].square().sum().backward()
    assert all(tensor.grad.abs().max() > 0 for tensor in inputs.values())
    with torch.no_grad():
        net.nodes["sample"].mean.weight.zero_()
        first, second = (net({key: x * n for key, x in inputs.items()}, plan)["output"] for n in (1, 2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    with torch.no_grad():
        drawn = [net.train()(inputs, plan)["output"] for _ in range(2)]
    assert (drawn[0] - drawn[1]).abs().max() > 0


def test_the_smallest_shapes():
    net = build_scalenet([{"top_resolution": (r, r), "base_nc": 1} for r in (32, 8)])
    assert net.smallest_plan.step == Coordinate(128, 128)
    assert net.smallest_plan.outputs == dict.fromkeys(net.output_keys, Roi((64, 64), (128, 128)))
    assert net.output_shapes == {
        "0_output": {"shape": (4, 4), "scale": (32.0, 32.0)},
        "1_output": {"shape": (16, 16), "scale": (8.0, 8.0)},
    }
    sizes = {key: tuple(r.shape / net.voxel_size[key]) for key, r in net.smallest_plan.inputs.items()}
    assert {key: shape["shape"] for key, shape in net.input_shapes.items()} == sizes
    fractional = build_unet((50, 4.6, 4.6), base_nc=1)
    assert fractional.input_shapes["input"]["scale"] == (50.0, 4.6, 4.6)
    assert all(type(size) is int for size in fractional.input_shapes["input"]["shape"])


WRONG = {
    "factor axes": (
        lambda: build_unet((8, 8), downsample_factors=[(2, 2), (2, 2, 2)]),
        "the voxel size has 2 axes, but among the factors and kernels is (2, 2, 2)",
    ),
    "kernel axes": (lambda: build_unet((8, 8, 8), kernel_sizes=[(3, 3)]), "has 3 axes, but among .* is (3, 3)"),
    "no level": (lambda: build_unet((8, 8), downsample_factors=[]), "at least one factor and one kernel, not [] and"),
    "no kernel": (
        lambda: build_unet((8, 8), kernel_sizes=[]),
        "at least one factor and one kernel, not [(2, 2), (2, 2)] and []",
    ),
    "no convolution": (
        lambda: build_unet((8, 8), convs_per_level=0),
        "convs_per_level is 0: it has to be greater than or equal to 1",
    ),
    "kernels twice": (
        lambda: build_unet((8, 8), kernel_sizes=[(3, 3)], convs_per_level=1),
        "kernel_sizes [[3, 3]] lists the convolutions of every pass; leave out convs_per_level, here 1",
    ),
    "down": (
        lambda: build_unet((8, 8), downsample_mode="min"),
        "downsample_mode is 'min': it has to be 'max', 'mean' or 'strided'",
    ),
    "up": (
        lambda: build_unet((8, 8), upsample_mode="cubic"),
        "upsample_mode is 'cubic': it has to be 'nearest', 'linear' or 'transposed'",
    ),
    "bottleneck": (
        lambda: build_unet((8, 8), bottleneck="deep"),
        "bottleneck is 'deep': it has to be 'atrous', 'pooling', 'transformer' or 'memory'",
    ),
    "no final convolution": (
        lambda: build_unet((8, 8), heads={"a": ["b"]}, num_final_convs=0),
        "num_final_convs is 0: it has to be greater than or equal to 1",
    ),
    "one factor for all axes": (
        lambda: build_unet((8, 8), downsample_factors=[2, 2]),
        "downsample_factors is [2, 2]: it takes tuples of whole numbers from 1 up, .* as in [(2, 2, 2), (1, 2, 2)]",
    ),
    "a broken factor": (
        lambda: build_unet((8, 8), downsample_factors=[(2.5, 2)]),
        "downsample_factors is [[2.5, 2]]: it takes tuples of whole numbers",
    ),
    "a broken factor of numpy": (
        lambda: build_unet((8, 8), downsample_factors=np.array([[2.0, 2.0]])),
        "downsample_factors is [[2.0, 2.0]]: it takes tuples of whole numbers",
    ),
    "one kernel for all axes": (
        lambda: build_unet((8, 8), kernel_sizes=[3, 3]),
        "kernel_sizes is [3, 3]: it takes tuples of whole numbers",
    ),
    "a broken kernel": (lambda: build_unet((8, 8), kernel_sizes=[(3, 3.7)]), "kernel_sizes is [[3, 3.7]]: it takes"),
    "a factor of nothing": (lambda: build_unet((8, 8), downsample_factors=[(0, 2)]), "is [[0, 2]]: it takes tuples of"),
    "dilations": (lambda: build_unet((8, 8), dilations=2), "dilations is 2: it takes tuples of whole numbers"),
    "one number for a voxel size": (
        lambda: build_unet(8),
        "top_resolution is 8: it takes the nanometres of a voxel along each axis, as in (8, 8, 8)",
    ),
    "text for a voxel size": (lambda: build_unet("888"), "top_resolution is '888': it takes the nanometres"),
    "half a factor": (lambda: build_unet((8, 8), nc_increase_factor=1.5), "nc_increase_factor is 1.5: "),
    "channels with a point": (lambda: build_unet((8, 8), base_nc=12.0), "base_nc is 12.0: it has to be a valid int"),
    "no input": (lambda: build_unet((8, 8), input_nc=0), "with an input_nc of 0 there is no 'input': then there have"),
    "an input in capitals": (lambda: build_unet((8, 8), inputs={"LSD": 3}), "it takes names in small letters, each"),
    "an input of no channel": (lambda: build_unet((8, 8), inputs={"lsd": 0}), "it takes names in small letters, each"),
    "two inputs of one name": (
        lambda: build_scalenet(
            [
                {"top_resolution": (16, 16), "subnet_id": "a", "inputs": {"b": 1}},
                {"top_resolution": (8, 8), "subnet_id": "a_b"},
            ]
        ),
        "two subnets have an input called 'a_b_input'",
    ),
    "fewer than no channels": (lambda: build_unet((8, 8), output_nc=-1), "output_nc is -1: it has to be greater"),
    "a number for a truth": (lambda: build_unet((8, 8), residual=1), "residual is 1: it has to be a valid boolean"),
    "a probability of two": (lambda: build_unet((8, 8), dropout_prob=2), "dropout_prob is 2: it has to be less"),
    "a number for an activation": (
        lambda: build_unet((8, 8), final_activation=1),
        "final_activation is 1: it takes the name of an activation, 'Identity' for none",
    ),
    "an activation without a name": (
        lambda: build_unet((8, 8), final_activation=""),
        "torch.nn has no activation ''",
    ),
    "names for heads": (
        lambda: build_unet((8, 8), heads=["a"]),
        "heads is ['a']: it takes names, each with its classes or with arguments of Head, as in {'organelles'",
    ),
    "one class for a list": (lambda: build_unet((8, 8), heads={"a": "b"}), "heads is {'a': 'b'}: it takes names"),
    "a head without classes": (
        lambda: build_unet((8, 8), heads={"a": {"activation": None}}),
        "the head 'a' has no 'classes'",
    ),
    "a head's layers": (
        lambda: build_unet((8, 8), heads={"a": {"classes": ["b"], "hidden_nc": 3}}),
        "Head ['a']: hidden_nc is 3: it has to be a list",
    ),
    "a head's activation": (
        lambda: build_unet((8, 8), heads={"a": {"classes": ["b"], "final_activation": ""}}),
        "torch.nn has no activation ''",
    ),
    "one subnet": (
        lambda: build_scalenet({"top_resolution": (8, 8)}),
        "ScaleNet takes a list of one or more subnets, each a mapping such as {'top_resolution': (32, 32, 32)}, not "
        "{'top_resolution': (8, 8)}",
    ),
    "no list of subnets": (lambda: build_attentive_scalenet(None), "AttentiveScaleNet takes a list of .* not None"),
    "numbers for subnets": (lambda: build_scalenet([8]), "not [8]"),
    "an argument of a subnet": (
        lambda: build_scalenet([{"top_resolution": (32, 32)}, {"top_resolution": (8, 8), "base_nc": 2.5}]),
        "subnet 1: base_nc is 2.5: ",
    ),
    "subnet_id": (
        lambda: build_scalenet([{"top_resolution": (8, 8), "subnet_id": [2]}]),
        "subnet [2]: subnet_id is [2]: it has to be a valid string or a valid integer",
    ),
    "no output": (lambda: build_unet((8, 8), output_nc=0), "with an output_nc of 0 there is no 'output'"),
    "no output to supervise": (
        lambda: build_unet((8, 8), output_nc=0, heads={"a": ["b"]}, deep_supervision=True),
        "no deep_supervision, whose outputs have output_nc channels",
    ),
    "no level to supervise": (
        lambda: build_unet((8, 8), downsample_factors=[(2, 2)], deep_supervision=True),
        "deep_supervision makes outputs at the coarser levels of the decoder, and with one downsampling factor",
    ),
    "a head called as the output": (
        lambda: build_unet((8, 8), heads={"output": ["a"]}),
        "two nodes are called 'output'",
    ),
    "gates in an autoencoder": (
        lambda: build_autoencoder((8, 8), latent_nc=2, attention_gates=True),
        "an autoencoder has no skip connections",
    ),
    "no subnet": (lambda: build_scalenet([]), "ScaleNet takes a list of one or more subnets, .* not []"),
    "join": (
        lambda: build_scalenet(two_scales(32, bottleneck_join="add")),
        "subnet 1: bottleneck_join is 'add': it has to be 'concatenate', 'sum', 'gated_sum' or 'attention'",
    ),
    "join of the coarsest": (
        lambda: build_scalenet([{"top_resolution": (8, 8), "bottleneck_join": "sum"}]),
        "subnet 0 is the coarsest: no features enter its bottleneck by a 'bottleneck_join'",
    ),
    "fine to coarse": (
        lambda: build_scalenet([{"top_resolution": (r, r)} for r in (32, 8, Fraction(32, 3), 128)]),
        "subnets go from coarse to fine, but subnet 2 has voxels of 10.6666666667 × 10.6666666667 nm and subnet 1 "
        "before it 8 × 8 nm; their order has to be 128 × 128, 32 × 32, 10.6666666667 × 10.6666666667, 8 × 8 nm",
    ),
    "fine to coarse, with a join": (
        lambda: build_scalenet([{"top_resolution": (8, 8), "bottleneck_join": "sum"}, {"top_resolution": (32, 32)}]),
        "subnets go from coarse to fine",
    ),
    "axes of subnets": (
        lambda: build_scalenet([{"top_resolution": (32, 32)}, {"top_resolution": (8, 8, 8)}]),
        "subnet '1' has 3 axes and subnet '0', whose features enter it, 2",
    ),
    "no resolution": (
        lambda: build_scalenet([{"base_nc": 1}]),
        "subnet 0 has no 'top_resolution', the voxel size (nm)",
    ),
    "ratio": (
        lambda: build_scalenet([{"top_resolution": (32, 48)}, {"top_resolution": (8, 8)}]),
        "subnet '1': on axis 1 its bottleneck has voxels of 32 nm, and subnet '0', whose features enter it, a "
        "top_resolution of 48 nm; one has to be a whole multiple of the other, so give subnet '0' a top_resolution of "
        "32 nm or 64 nm there",
    ),
    "ratio below one": (
        lambda: build_scalenet([{"top_resolution": (12, 32)}, {"top_resolution": (8, 8)}]),
        "subnet '1': on axis 0 .* of 32 nm, .* give subnet '0' a top_resolution of 32/3 nm or 16 nm there",
    ),
    "one name": (
        lambda: build_scalenet([{"top_resolution": (r, r), "subnet_id": "x"} for r in (32, 8)]),
        "two subnets have an input called 'x_input'",
    ),
    "axes": (lambda: build_unet((8,)), "a voxel size has 2 or 3 axes"),
    "negative": (lambda: build_unet((8, -8)), "voxel size 8 × -8 nm has to be positive on every axis"),
}


def test_neighbouring_subnets_may_have_one_voxel_size():
    net = build_scalenet([{"top_resolution": (8, 8), "base_nc": 1} for _ in range(2)])
    assert net.voxel_size["0_output"] == net.voxel_size["1_output"]
    build_scalenet([{"top_resolution": size, "base_nc": 1} for size in ((16, 64), (32, 16))])


@pytest.mark.parametrize("name", WRONG)
def test_what_no_network_can_be_is_refused(name):
    build, message = WRONG[name]
    with pytest.raises(ValueError) as caught:
        build()
    for part in message.split(".*"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", UNetOptions.model_fields)
def test_an_option_of_any_type_is_refused_or_comes_back(name):
    """A network that builds is rebuilt from JSON; an option that does not build raises ``ValueError``, nothing else."""
    given = {"top_resolution": [8, 8], "downsample_factors": [[2, 2], [1, 2]], "base_nc": 2, "heads": {"a": ["b"]}}
    examples = {"kernel_sizes": [[3, 3]], "dilations": [[1, 1], [1, 1]], "dropout_prob": 0.5, **given}
    example = examples.get(name, UNetOptions.model_fields[name].default)
    for odd in odd_twins(example):
        try:
            net = build_unet(**{**given, name: odd})
        except ValueError:
            continue
        described = json.dumps(net.to_spec(), allow_nan=False)
        again = LeibNet.from_spec(json.loads(described))
        assert json.dumps(again.to_spec()) == described
        assert again.fingerprint == net.fingerprint
        again.load_state_dict(net.state_dict())


def test_an_argument_that_does_not_exist():
    with pytest.raises(TypeError, match="base_channels"):
        build_unet((8, 8), base_channels=2)
    with pytest.raises(TypeError, match="base_channels"):
        build_autoencoder((8, 8), latent_nc=1, base_channels=2)
    with pytest.raises(TypeError, match="output_nc"):
        build_autoencoder((8, 8), latent_nc=1, output_nc=2)
    with pytest.raises(TypeError, match="base_channels"):
        build_scalenet([{"top_resolution": (8, 8), "base_channels": 2}])
    with pytest.raises(TypeError, match="the head 'a' has no argument 'dims'; there are classes, hidden_nc, "):
        build_unet((8, 8), heads={"a": {"classes": ["b"], "dims": 2}})
    with pytest.raises(TypeError, match=r"subnet 'coarse': .*'heads_nc'"):
        build_scalenet([{"top_resolution": (8, 8), "subnet_id": "coarse", "heads_nc": 2}])
