"""Every builder of networks through the network tester, and as a run file names it."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from funlib.geometry import Coordinate, Roi
from pydantic import TypeAdapter

from scalenet_gp import LeibNet, build_attentive_scalenet, build_scalenet, build_unet
from scalenet_gp.layers import DenseBlock, RecurrentResiduals, ScaleAttention
from scalenet_gp.networks import (
    NetworkKind,
    OutputForm,
    build_attention_unet,
    build_cascade,
    build_convnext_unet,
    build_deeplab,
    build_ensemble,
    build_fpn,
    build_hrnet,
    build_hybrid_unet,
    build_mobile_unet,
    build_multimodal_unet,
    build_probabilistic_unet,
    build_residual_encoder_unet,
    build_transunet,
    build_unet_3_plus,
    build_unet_plus_plus,
)
from scalenet_gp.testing import NetworkCase, NetworkTester, random_inputs, randomize

FINE = [(1, 3, 3)]
COARSE = [(3, 3, 3)]


def options(dims: int, **changed) -> dict:
    """Two levels with factors and kernels of their own along each axis, and nothing that hides a voxel."""
    told = {
        "base_nc": 2,
        "downsample_factors": [factor[:dims] for factor in ((1, 2, 2), (2, 1, 2))],
        "kernel_sizes": [[kernel[:dims] for kernel in level] for level in (FINE, COARSE, COARSE)],
        "downsample_mode": "mean",
        "activation": "Softplus",
        "final_activation": "Tanh",
    }
    return {**told, **changed}


def size(dims: int) -> tuple:
    return (40, 4, "4.6")[:dims]


def case(build, channels, output="output", dims=(2, 3), **changed) -> NetworkCase:
    return NetworkCase(lambda axes: build(size(axes), **options(axes, **changed)), output, channels, dims)


def scales(build, channels, output="1_output", dims=(2, 3), of_network=None, **changed) -> NetworkCase:
    """Two subnets, the coarse one of twice the voxels along the last two axes."""

    def net(axes: int) -> LeibNet:
        sizes = [(40, 8, "9.2")[:axes], size(axes)]
        few = {"kernel_sizes": [kernel[:axes] for kernel in COARSE], "downsample_factors": [(1, 2, 2)[:axes]]}
        subnets = [{"top_resolution": nm, **options(axes, **few)} for nm in sizes]
        subnets[-1] |= changed
        return build(subnets, **(of_network or {}))

    return NetworkCase(net, output, channels, dims)


class TestNetworks(NetworkTester):
    cases = {  # noqa: RUF012
        "unet": case(build_unet, {"in_conv_1": 4, "bottleneck": 8}),
        "unet same": case(build_unet, {"bottleneck": 3}, padding="same", max_nc=3, dims=(2,)),
        "attention unet": case(build_attention_unet, {"attention_gate_1": 4}, dims=(2,)),
        "pooling": case(build_unet, {"bottleneck_pooling": 8}, bottleneck="pooling", dims=(2,)),
        "dense": case(build_unet, {"in_conv_1": 4}, block="dense", dims=(2,)),
        "memory": case(build_unet, {"bottleneck_memory": 8}, bottleneck="memory", prototypes=5, dims=(2,)),
        "transunet": case(build_transunet, {"bottleneck_transformer_1": 8}, transformer_layers=2, dims=(2,)),
        "mobile unet": case(build_mobile_unet, {"bottleneck": 16}, base_nc=4, norm_layer="layer", dims=(2,)),
        "convnext unet": case(build_convnext_unet, {"bottleneck": 8}, dims=(3,)),
        "hybrid unet": case(
            build_hybrid_unet, {"bottleneck": 8}, kernel_sizes=None, downsample_factors=None, depth=2, dims=(3,)
        ),
        "residual encoder unet": case(build_residual_encoder_unet, {"in_conv_1_1": 4}, blocks_per_level=[1, 2, 1]),
        "unet plus plus": case(build_unet_plus_plus, {"x_0_2": 2, "join_0_2": 8}, deep_supervision=True),
        "unet 3 plus": case(build_unet_3_plus, {"out_conv_0": 6}, deep_supervision=True),
        "fpn": case(build_fpn, {"pyramid_2": 4, "features": 2}, pyramid_nc=4),
        "hrnet": case(build_hrnet, {"stage_2_0_2": 8, "features": 14}, modules_per_stage=[1, 2, 1]),
        "deeplab": case(build_deeplab, {"pyramid": 8, "join": 9}, rates=[1, 2]),
        "cross fusion": case(build_multimodal_unet, {"in_conv_1": 4}, inputs={"ct": 2}, input_nc=2, dims=(2,)),
        "late fusion": case(
            build_multimodal_unet, {"fusion": 2}, fusion="late", fusion_join="gated_sum", inputs={"ct": 2}, dims=(3,)
        ),
        "probabilistic unet": case(build_probabilistic_unet, {"variance": 1, "prior_mean": 3}, latent_nc=3, samples=2),
        "global latent": case(
            build_probabilistic_unet, {"prior_global": 8}, "posterior_output", (2,), global_latent=True, samples=1
        ),
        "ensemble": scales(build_ensemble, {"output": 1}, output="output", dims=(2,)),
        "cascade": scales(build_cascade, {"1_input_join": 2}),
        "scalenet": scales(build_scalenet, {"1_bottleneck_join": 4}, of_network={"coarse_supervision": False}),
        "scalenet at every level": scales(build_scalenet, {"1_level_0_join": 8}, inject="every_level", dims=(2,)),
        "scalenet at the output": scales(build_scalenet, {"1_output_join": 2}, inject="output", bottleneck_join="sum"),
    }


SMALL = {"top_resolution": [8, 8], "base_nc": 2, "norm_layer": None}
SCALES = {"subnets": [{**SMALL, "top_resolution": [nm, nm]} for nm in (16, 8)]}
RUN_FILES = {
    "unet": (build_unet, SMALL),
    "scalenet": (build_scalenet, SCALES),
    "attentive_scalenet": (build_attentive_scalenet, SCALES),
    "attention_unet": (build_attention_unet, SMALL),
    "cascade": (build_cascade, SCALES),
    "convnext_unet": (build_convnext_unet, SMALL),
    "deeplab": (build_deeplab, SMALL),
    "ensemble": (build_ensemble, SCALES),
    "fpn": (build_fpn, SMALL),
    "hrnet": (build_hrnet, SMALL),
    "hybrid_unet": (build_hybrid_unet, SMALL),
    "mobile_unet": (build_mobile_unet, {**SMALL, "width_multiplier": 1.5}),
    "multimodal_unet": (build_multimodal_unet, {**SMALL, "inputs": {"ct": 2, "lsd": 3}}),
    "residual_encoder_unet": (build_residual_encoder_unet, SMALL),
    "transunet": (build_transunet, {**SMALL, "transformer_layers": 1}),
    "unet_3_plus": (build_unet_3_plus, SMALL),
    "unet_plus_plus": (build_unet_plus_plus, SMALL),
}


@pytest.mark.parametrize("kind", RUN_FILES)
def test_a_run_file_builds_the_same_network_with_the_outputs_of_its_targets(kind):
    build, given = RUN_FILES[kind]
    options = TypeAdapter(NetworkKind).validate_python({"kind": kind, **given})
    again = TypeAdapter(NetworkKind).validate_json(options.model_dump_json())
    assert again == options
    net = options.build(lambda name: OutputForm(3, "Softmax"))
    form = {"output_nc": 3, "final_activation": "Softmax"}
    if "subnets" in given:
        same = build([{**subnet, **form} for subnet in given["subnets"]])
    else:
        same = build(**{**given, **form})
    assert net.fingerprint == same.fingerprint
    assert {net.specs[key].channels for key in net.output_keys} == {3}


def test_every_network_of_a_run_file_is_tested():
    kinds = {model.model_fields["kind"].default for model in get_args(get_args(NetworkKind)[0])}
    assert kinds - {"autoencoder"} == set(RUN_FILES)


def test_kernels_of_their_own_at_every_level():
    kernels = [[(1, 3, 3)], [(1, 3, 3), (3, 3, 3)], [(3, 1, 1)]]
    net = build_unet((40, 4, 4), base_nc=1, kernel_sizes=kernels, downsample_factors=[(1, 2, 2), (2, 2, 2)])
    told = {name: net.graph.nodes[name].arguments["kernel_sizes"] for name in ("in_conv_0", "out_conv_1", "bottleneck")}
    assert told == {"in_conv_0": [[1, 3, 3]], "out_conv_1": [[1, 3, 3], [3, 3, 3]], "bottleneck": [[3, 1, 1]]}
    dilated = build_unet((8, 8), base_nc=1, kernel_sizes=[(3, 3)], dilations=[[(1, 2)], [(3, 1)], [(1, 1)]])
    assert dilated.graph.nodes["in_conv_1"].margin == Coordinate(3, 1)


def test_passes_are_the_blocks_that_are_named():
    """Recurrent ones are not in the tester of whole networks: their outermost voxels count too little for it."""
    for block, kind, margin in (("recurrent", RecurrentResiduals, 6), ("dense", DenseBlock, 2)):
        net = build_unet((8, 8), base_nc=1, block=block, padding="valid")
        passes = [net.graph.nodes[name] for name in ("in_conv_0", "bottleneck", "out_conv_1")]
        assert {(type(each), tuple(each.margin)) for each in passes} == {(kind, (margin, margin))}
        assert net.tileable


def test_kernels_and_factors_follow_the_voxels_of_a_hybrid():
    net = build_hybrid_unet((40, "4.6", "4.6"), base_nc=1, depth=4)
    factors = [net.graph.nodes[f"downsample_{level}"].factor for level in range(4)]
    assert factors == [*[(1, 2, 2)] * 3, (2, 2, 2)]
    margins = [tuple(net.graph.nodes[f"in_conv_{level}"].margin) for level in range(4)]
    assert margins == [*[(0, 2, 2)] * 3, (2, 2, 2)]
    cube = build_hybrid_unet((8, 8, 8), base_nc=1, depth=2)
    assert cube.fingerprint == build_unet((8, 8, 8), base_nc=1).fingerprint


JOINED = {"upsample_0_1", "join_0_1"}


def test_a_pruned_unet_plus_plus_computes_the_shallow_unet_alone():
    net = randomize(build_unet_plus_plus((8, 8), base_nc=1, downsample_factors=[(2, 2)] * 3, deep_supervision=True))
    plan = net.plan({"output_depth_1": Roi((0, 0), (8, 8))})
    assert {step.node for step in plan.steps} == {"x_0_0", "downsample_0", "x_1_0", *JOINED, "x_0_1", "output_depth_1"}


def test_an_ensemble_is_the_mean_and_a_cascade_reads_the_prediction():
    subnets = [{"top_resolution": (nm, 8), "base_nc": 1, "output_nc": 2} for nm in (16, 8)]
    net = randomize(build_ensemble(subnets, "nearest"))
    roi = Roi((0, 0), (32, 16))
    plan = net.plan(dict.fromkeys(net.output_keys, roi))
    with torch.no_grad():
        made = net(random_inputs(plan), plan)
    coarse = made["0_output"].repeat_interleave(2, dim=2)
    torch.testing.assert_close(made["output"], (coarse + made["1_output"]) / 2)
    cascade = build_cascade(subnets)
    assert cascade.graph.nodes["1_in_conv_0"].input_nc == 3
    assert cascade.specs["1_input"].channels == 1
    assert cascade.input_keys == ("0_input", "1_input")


def test_features_of_all_coarser_scales_enter():
    told = [{"top_resolution": (nm, nm), "base_nc": nc} for nm, nc in ((128, 1), (32, 2), (8, 3))]
    told[2] |= {"inject_from": "all", "bottleneck_join": "attention"}
    net = build_scalenet(told, coarse_supervision=False)
    join = net.graph.nodes["2_bottleneck_join"]
    assert join.input_keys == ("2_downsample_1", "2_bottleneck_from_0_upsample", "1_out_conv_0")
    assert (type(join), join.input_ncs) == (ScaleAttention, (6, 1, 2))
    assert net.output_keys == ("2_output",)
    assert not {"0_output", "1_output"} & set(net.graph.nodes)
    chained = build_scalenet([told[0], {**told[1], "inject": "output"}, {**told[2], "inject": "output"}])
    assert chained.graph.nodes["2_output_join"].input_ncs == (3, 1, 3)  # the middle one hands on what it joined


@pytest.mark.parametrize("fusion", ["early", "late", "cross"])
def test_every_volume_counts_wherever_volumes_meet(fusion):
    """Without raw data, too; a U-Net for each in late fusion, an encoder for each in cross fusion."""
    told = {"base_nc": 2, "activation": "Tanh", "input_nc": 0, "inputs": {"ct": 1, "lsd": 3}}
    net = randomize(build_multimodal_unet((8, 8), fusion=fusion, **told))
    made = {"early": ["inputs"], "late": ["ct_out_conv_0", "lsd_out_conv_0"], "cross": ["ct_cross_0", "lsd_cross_0"]}
    for each, names in made.items():
        assert all((name in net.graph.nodes) == (each == fusion) for name in names)
    plan = net.smallest_plan
    inputs = random_inputs(plan)
    with torch.no_grad():
        before = net(inputs, plan)["output"]
        for name, tensor in inputs.items():
            assert not torch.equal(net({**inputs, name: tensor + 1}, plan)["output"], before), name


def test_early_fusion_is_the_unet_that_reads_the_volumes():
    options = {"base_nc": 2, "inputs": {"ct": 2}}
    fused = build_multimodal_unet((8, 8), fusion="early", **options)
    assert fused.fingerprint == build_unet((8, 8), **options).fingerprint


@pytest.mark.parametrize("ratio", [2, 4, 8])
@pytest.mark.parametrize("scales", [2, 3, 4])
def test_scalenets_of_any_scales_and_ratios_join_in_every_way(scales, ratio):
    """All ways of joining, entering and supervising are named by options; a plan of each reads every scale."""
    places, joins = ("bottleneck", "every_level", "output"), ("concatenate", "sum", "gated_sum", "attention")
    for turn, place in enumerate(places):
        subnets = [{"top_resolution": (ratio**n,) * 2, "base_nc": 1} for n in reversed(range(scales))]
        for index, subnet in enumerate(subnets[1:]):
            subnet |= {"inject": place, "inject_from": "all" if index else "previous"}
            subnet["bottleneck_join"] = joins[(turn + index + scales) % 4]
        with torch.device("meta"):
            net = build_scalenet(subnets, coarse_supervision=bool(turn % 2))
        assert len(net.output_keys) == (scales if turn % 2 else 1)
        assert set(net.plan({net.output_keys[-1]: Roi((0, 0), (8, 8))}).inputs) == {f"{n}_input" for n in range(scales)}


WRONG = {
    "one volume": (lambda: build_multimodal_unet((8, 8)), "there is nothing to fuse: the one input is 'input'"),
    "its own name": (lambda: build_multimodal_unet((8, 8), inputs={"raw": 1}), "inputs has 'raw'"),
    "no join": (
        lambda: build_multimodal_unet((8, 8), inputs={"ct": 1}, fusion="early", fusion_join="sum"),
        "leave out fusion_join, here 'sum'",
    ),
    "supervised late": (
        lambda: build_multimodal_unet((8, 8), inputs={"ct": 1}, fusion="late", deep_supervision=True),
        "leave out deep_supervision",
    ),
    "kernels of too few levels": (
        lambda: build_unet((8, 8), kernel_sizes=[[(3, 3)], [(3, 3)]]),
        "kernel_sizes has lists for 2 levels; with 2 downsample_factors there are 3, the bottleneck included",
    ),
    "an empty level": (
        lambda: build_unet((8, 8), kernel_sizes=[[(3, 3)], [], [(3, 3)]]),
        "at least one factor and one",
    ),
    "axes of a level": (
        lambda: build_unet((8, 8), kernel_sizes=[[(3, 3)], [(3,)], [(3, 3)]]),
        "has 2 axes, but .* (3,)",
    ),
    "expansion": (lambda: build_unet((8, 8), expansion=2), "expansion 2 is for blocks; give block 'inverted_residual'"),
    "expansion of a dense block": (lambda: build_unet((8, 8), block="dense", expansion=2), "expansion 2 is for blocks"),
    "a part of a block": (lambda: build_mobile_unet((8, 8), residual=True), "residual is for block 'conv'"),
    "most channels": (lambda: build_unet((8, 8), max_nc=3), "max_nc 3 is less than base_nc 12"),
    "prototypes": (lambda: build_unet((8, 8), prototypes=9), "prototypes 9 needs the bottleneck 'memory'"),
    "transformers": (lambda: build_unet((8, 8), transformer_layers=2), "transformer_layers 2 needs the bottleneck"),
    "no gates": (lambda: build_attention_unet((8, 8), attention_gates=False), "attention_gates is False: it has to be"),
    "depth twice": (
        lambda: build_hybrid_unet((8, 8), depth=2, downsample_factors=[(2, 2)]),
        "leave out depth, here 2",
    ),
    "stages": (lambda: build_hrnet((8, 8), modules_per_stage=[1, 1]), "there are 3 stages, so it takes 3 numbers"),
    "low level": (lambda: build_deeplab((8, 8), low_level=2), "low_level 2 has to be finer than the coarsest level, 2"),
    "rates": (lambda: build_deeplab((8, 8), rates=[(1, 2, 3)]), "among the rates is (1, 2, 3)"),
    "same pyramid": (lambda: build_deeplab((8, 8), padding="same"), "leave out padding 'same'"),
    "blocks": (lambda: build_residual_encoder_unet((8, 8), blocks_per_level=[2]), "so it takes 3 numbers"),
    "residual": (lambda: build_residual_encoder_unet((8, 8), residual=True), "leave it out"),
    "block": (lambda: build_residual_encoder_unet((8, 8), block="convnext"), "leave out block 'convnext'"),
    "supervised": (
        lambda: build_unet_plus_plus((8, 8), downsample_factors=[(2, 2)], deep_supervision=True),
        "give two or more downsample_factors",
    ),
    "supervised without output": (
        lambda: build_unet_3_plus((8, 8), output_nc=0, heads={"a": ["b"]}, deep_supervision=True),
        "give an output_nc above 0",
    ),
    "ratio": (
        lambda: build_cascade([{"top_resolution": (12, 12)}, {"top_resolution": (8, 8)}]),
        "subnet 0 has voxels of 12 × 12 nm, which have to be whole multiples of the 8 × 8 nm",
    ),
    "other predictions": (
        lambda: build_ensemble([{"top_resolution": (nm, nm), "output_nc": nm} for nm in (2, 1)]),
        "its subnets have 1 channels of Sigmoid, 2 channels of Sigmoid",
    ),
    "no prediction": (
        lambda: build_cascade([{"top_resolution": (8, 8), "output_nc": 0, "heads": {"a": ["b"]}}]),
        "subnet 0 has an output_nc of 0, but its 'output' is needed",
    ),
    "into the coarsest": (
        lambda: build_scalenet([{"top_resolution": (8, 8), "inject": "output"}]),
        "no features enter its bottleneck by a 'inject'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_network_can_be_is_refused(name):
    build, message = WRONG[name]
    with pytest.raises(ValueError) as caught:
        build()
    for part in message.split(".*"):
        assert part in str(caught.value)


@pytest.mark.parametrize("build", [build_scalenet, build_ensemble, build_cascade])
def test_each_scale_reads_volumes_of_its_own_beside_raw(build):
    """The result depends on all of them; a scale of no raw data has no such input."""
    coarse, fine = ({**subnet, "activation": "Tanh"} for subnet in SCALES["subnets"])
    net = randomize(build([{**coarse, "inputs": {"lsd": 3}}, {**fine, "input_nc": 0, "inputs": {"lsd": 3, "cell": 2}}]))
    assert {name: net.specs[name].channels for name in net.input_keys} == {
        "0_input": 1,
        "0_lsd_input": 3,
        "1_lsd_input": 3,
        "1_cell_input": 2,
    }
    output = "output" if build is build_ensemble else "1_output"
    plan = net.plan({output: net.smallest_plan.outputs[output]})
    inputs = random_inputs(plan)
    with torch.no_grad():
        before = net(inputs, plan)[output]
        for name, tensor in inputs.items():
            assert not torch.equal(net({**inputs, name: tensor + 1}, plan)[output], before), name


SIZES = {
    "UNet_3Plus of its authors' code (ZJUGiveLab/UNet-Version, 8ecd067), counted": (
        lambda: build_unet_3_plus((8, 8), input_nc=3, base_nc=64, downsample_factors=[(2, 2)] * 4),
        26_971_777,
        0.001,
    ),
    "Nest_Net of the authors' code of U-Net++, as its comment says": (
        lambda: build_unet_plus_plus((8, 8), base_nc=32, downsample_factors=[(2, 2)] * 4),
        9_041_601,
        0.02,
    ),
    "AttentionUnet(3, 1, 1, (16, 32, 64), (2, 2)) of MONAI 1.6.1": (
        lambda: build_attention_unet((8, 8, 8), base_nc=16),
        355_281,
        0.005,
    ),
    "DynUNet of MONAI 1.6.1, six levels of 32 to 320 channels; ours upsamples before it reduces the channels": (
        lambda: build_unet(
            (8, 8, 8),
            base_nc=32,
            max_nc=320,
            output_nc=2,
            downsample_factors=[(2, 2, 2)] * 5,
            upsample_mode="transposed",
            norm_layer="instance",
        ),
        31_189_410,
        0.05,
    ),
    "ResidualEncoderUNet of dynamic-network-architectures 0.4.4, six levels of 32 to 320 channels": (
        lambda: build_residual_encoder_unet(
            (8, 8, 8), base_nc=32, output_nc=2, downsample_factors=[(2, 2, 2)] * 5, norm_layer="instance"
        ),
        102_349_770,
        0.035,
    ),
}


@pytest.mark.parametrize("name", SIZES)
def test_networks_are_about_as_large_as_those_of_papers_and_peers(name):
    """Differences are those that the docstrings of the builders name."""
    build, expected, tolerance = SIZES[name]
    with torch.device("meta"):
        net = build()
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(expected, rel=tolerance)
