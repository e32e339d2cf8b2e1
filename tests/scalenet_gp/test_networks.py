"""U-Nets and ScaleNets: LeibNetz's arguments, and what is refused."""

from __future__ import annotations

import pytest
from funlib.geometry import Coordinate, Roi

from scalenet_gp import build_scalenet, build_unet
from scalenet_gp.kinds import ConvPass, Pool, StridedConv, TransposedConv, Upsample


def channels(net) -> dict[str, int]:
    return {key: spec.channels for key, spec in net.specs.items()}


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
    assert all(node.arguments["kernel_sizes"] == [(3,) * 3] * 2 for k, node in net.nodes.items() if "conv" in k)
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
        norm_layer="instance",
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
        assert node.arguments["kernel_sizes"] == ([(1, 1, 1)] * 2 if final else [(1, 3, 3), (3, 3, 3), (1, 1, 1)])
        assert type(node.final_activation).__name__ == ("Tanh" if final else "GELU")
    assert isinstance(net.nodes["downsample_1"], StridedConv)
    assert isinstance(net.nodes["upsample_2"], TransposedConv)
    assert net.nodes["upsample_2"].factor == (2, 1, 1)
    assert len(build_unet((8, 8), convs_per_level=3).nodes["bottleneck"].arguments["kernel_sizes"]) == 3
    assert isinstance(build_unet((8, 8), downsample_mode="mean").nodes["downsample_0"], Pool)


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


def test_the_smallest_shapes():
    net = build_scalenet([{"top_resolution": (r, r), "base_nc": 1} for r in (32, 8)])
    assert net.smallest_plan.step == Coordinate(128, 128)
    assert net.smallest_plan.outputs == dict.fromkeys(net.output_keys, Roi((0, 0), (128, 128)))
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
        lambda: build_unet((8, 8), convs_per_level=0),
        "at least one factor and one kernel, not [(2, 2), (2, 2)]",
    ),
    "down": (lambda: build_unet((8, 8), downsample_mode="min"), "downsample_mode is 'max', 'mean' or 'strided'"),
    "up": (lambda: build_unet((8, 8), upsample_mode="linear"), "not 'max' and 'linear'"),
    "no resolution": (
        lambda: build_scalenet([{"base_nc": 1}]),
        "subnet 0 has no 'top_resolution', the voxel size (nm)",
    ),
    "ratio": (
        lambda: build_scalenet([{"top_resolution": (64, 64)}, {"top_resolution": (8, 8)}]),
        "node '1_bottleneck_join' cannot work on '1_downsample_1' (24 channels of 32 × 32 nm), '0_out_conv_0' (12 "
        "channels of 64 × 64 nm): the tensors it joins have to share one voxel size",
    ),
    "one name": (
        lambda: build_scalenet([{"top_resolution": (r, r), "subnet_id": "x"} for r in (32, 8)]),
        "two nodes are called 'x_in_conv_0'",
    ),
    "axes": (lambda: build_unet((8,)), "a kernel has 2 or 3 axes"),
    "negative": (lambda: build_unet((8, -8)), "voxel size 8 × -8 nm has to be positive on every axis"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_network_can_be_is_refused(name):
    build, message = WRONG[name]
    with pytest.raises(ValueError) as caught:
        build()
    for part in message.split(".*"):
        assert part in str(caught.value)


def test_an_argument_that_does_not_exist():
    with pytest.raises(TypeError, match="base_channels"):
        build_unet((8, 8), base_channels=2)
    with pytest.raises(TypeError, match="base_channels"):
        build_scalenet([{"top_resolution": (8, 8), "base_channels": 2}])
