"""Passes that never make what is upsampled and joined only for them, against the same sums done at length."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.utils.prune
from funlib.geometry import Roi
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scalenet_gp import LeibNet, Plan, TensorSpec, build_scalenet, build_unet
from scalenet_gp.graph.planning import Planner
from scalenet_gp.kernels.joined_convolution import accepts_unfused_inputs, convolve_joined
from scalenet_gp.kernels.tensors import UpsampledView, channels_last, crop_tensor
from scalenet_gp.layers import Concatenate, ConvPass, Upsample
from scalenet_gp.networks import build_autoencoder
from scalenet_gp.testing import random_inputs, randomize
from tests.scalenet_gp.graph.strategies import networks, requests
from tests.scalenet_gp.helpers import taken_by, values


@st.composite
def joins(draw) -> tuple[nn.Module, list[Tensor | UpsampledView], list[Tensor]]:
    """A convolution, the parts that its input is joined from, and these parts upsampled and cropped one by one."""
    dims = draw(st.sampled_from((2, 3)))
    kernel = draw(st.tuples(*[st.integers(1, 5)] * dims).filter(lambda k: max(k) > 1))
    size = [draw(st.integers(k, k + 4)) for k in kernel]
    batch = draw(st.integers(1, 2))
    parts: list[Tensor | UpsampledView] = []
    made: list[Tensor] = []
    for repeated in draw(st.lists(st.booleans(), min_size=1, max_size=3)):
        channels = draw(st.integers(1, 3))
        if not repeated:
            made.append(channels_last(torch.randn(batch, channels, *size, dtype=torch.float64)))
            parts.append(made[-1])
            continue
        factor = draw(st.tuples(*[st.integers(1, 4)] * dims))
        first = [draw(st.integers(0, f - 1)) for f in factor]
        coarse = [-(-(a + n) // f) for a, n, f in zip(first, size, factor, strict=True)]
        crop = tuple((a, a + n) for a, n in zip(first, size, strict=True))
        tensor = channels_last(torch.randn(batch, channels, *coarse, dtype=torch.float64))
        parts.append(UpsampledView(tensor, factor, crop))
        fine = tensor
        for axis, f in enumerate(factor, start=2):
            fine = fine.repeat_interleave(f, dim=axis)
        made.append(fine[(..., *(slice(*bounds) for bounds in crop))])
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    channels = sum(part.shape[1] for part in made)
    return convolution(channels, draw(st.integers(1, 3)), kernel, padding="valid").double(), parts, made


@given(joins())
@settings(max_examples=150)
def test_parts_give_what_their_join_gives(drawn):
    layer, parts, made = drawn
    assert accepts_unfused_inputs(layer)
    with torch.no_grad():
        assert torch.allclose(convolve_joined(layer, parts), layer(torch.cat(made, dim=1)), rtol=0, atol=1e-12)


@given(joins())
@settings(max_examples=60)
def test_gradients_are_those_of_the_join(drawn):
    layer, parts, made = drawn
    leaves = [part.tensor if isinstance(part, UpsampledView) else part for part in parts]
    for leaf in leaves:
        leaf.requires_grad_()
    again = []
    for part in parts:
        tensor = part
        if isinstance(part, UpsampledView):
            tensor = part.tensor
            for axis, f in enumerate(part.factor, start=2):
                tensor = tensor.repeat_interleave(f, dim=axis)
            tensor = tensor[(..., *(slice(*bounds) for bounds in part.crop))]
        again.append(tensor)
    weights = torch.randn_like(layer(torch.cat(made, dim=1)))
    wanted = [*leaves, *layer.parameters()]
    found = torch.autograd.grad((convolve_joined(layer, parts) * weights).sum(), wanted)
    expected = torch.autograd.grad((layer(torch.cat(again, dim=1)) * weights).sum(), wanted)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-10)


def plan_at_length(net: LeibNet, request) -> Plan:
    """The plan in which every node runs in its turn."""

    nodes = list(net.graph.nodes.values())
    planner = Planner(nodes, net.specs, net.voxel_size)
    planner.fused = {node.identifier: [(key, key) for key in node.input_keys] for node in nodes}
    return planner.plan(request, net.fingerprint)


@given(st.data())
@settings(max_examples=40)
def test_a_network_computes_and_asks_for_the_same(data):
    """Whole networks, drawn at random, with every node in its turn and without."""
    net = randomize(data.draw(networks(linear=False))).double().eval()
    request = data.draw(requests(net))
    plan = net.plan(request)
    assume(values(plan) < 150_000)
    at_length = plan_at_length(net, request)
    assert len(at_length.steps) >= len(plan.steps)
    assert plan.inputs == at_length.inputs
    inputs = random_inputs(plan, torch.float64)
    with torch.no_grad():
        outputs, expected = net(inputs, plan), net(inputs, at_length)
    for key in request:
        scale = expected[key].abs().max().clamp(min=1)
        assert ((outputs[key] - expected[key]).abs().max() / scale).item() < 1e-12


@pytest.mark.parametrize("begins", list(itertools.product((0, 8, 16, 24), repeat=2)))
def test_every_place_is_computed_alike(begins):
    """One voxel of many, wherever in the coarse voxels it lies."""
    net = randomize(build_unet((8, 8), base_nc=4, norm_layer=None))
    whole = net.plan({"output": Roi((-32, -32), (96, 96))})
    one = net.plan({"output": Roi(begins, (8, 8))})
    inputs = random_inputs(whole)
    crop = whole.tensor("input").crop_to(one.inputs["input"])
    with torch.no_grad():
        expected = net(inputs, whole)["output"]
        found = net({"input": crop_tensor(inputs["input"], crop)}, one)["output"]
    y, x = (begin // 8 + 4 for begin in begins)
    torch.testing.assert_close(found, expected[:, :, y : y + 1, x : x + 1], rtol=1e-9, atol=1e-9)


A = {"a": TensorSpec((8, 8), 1)}


def test_where_a_join_is_not_made():
    taken = taken_by(build_scalenet([{"top_resolution": (r, r), "base_nc": 2, "norm_layer": None} for r in (32, 8)]))
    assert taken["0_out_conv_1"] == ("0_bottleneck", "0_in_conv_1")
    assert taken["1_out_conv_0"] == ("1_out_conv_1", "1_in_conv_0")
    assert taken["1_bottleneck"] == ("1_bottleneck_join",)  # nothing in it is upsampled: joined is quicker


def test_a_gated_skip_is_a_part_like_others():
    net = build_unet((8, 8), base_nc=2, attention_gates=True, norm_layer=None)
    taken = taken_by(net)
    assert taken["out_conv_0"] == ("out_conv_1", "attention_gate_0")
    assert "upsample_0" in net.smallest_plan.rois  # which the gate reads
    assert "join_0" not in net.smallest_plan.rois


def test_a_decoder_without_skips_takes_the_coarse_tensor_alone():
    net = build_autoencoder((8, 8), base_nc=2, latent_nc=2, norm_layer=None)
    assert taken_by(net)["out_conv_0"] == ("out_conv_1",)


@pytest.mark.parametrize(
    "options",
    [
        {"residual": True},
        {"norm_layer": "batch"},
        {"dropout_prob": 0.1},
        {"separable": True},
        {"dilations": [(2, 2), (1, 1)]},
        {"kernel_sizes": [(1, 1), (3, 3)]},
        {"upsample_mode": "linear"},
        {"upsample_mode": "transposed"},
        {"nc_increase_factor": 1, "downsample_factors": [(8, 8), (5, 1)]},
    ],
    ids=str,
)
def test_where_a_join_is_made(options):
    net = build_unet((8, 8), base_nc=2, **{"norm_layer": None, **options})
    assert all(taken == net.nodes[name].input_keys for name, taken in taken_by(net).items())


def test_where_the_coarse_tensor_has_few_channels_the_join_is_made():
    """The result at coarse voxels, with the channels of the output, would be larger than the join."""
    for output_nc, taken in ((4, ("c", "a")), (5, ("join",))):
        nodes = [
            Upsample(["c"], ["up"], (2, 2)),
            Concatenate(["up", "a"], ["join"]),
            ConvPass(["join"], ["d"], 5, output_nc, [(3, 3)]),
        ]
        net = LeibNet(nodes, {**A, "c": TensorSpec((16, 16), 4)}, ["d"])
        assert taken_by(net)["d"] == taken


class Doubled(Upsample):
    def forward(self, *tensors):
        return 2 * super().forward(*tensors)


class Reversed(Concatenate):
    def forward(self, *tensors):
        return super().forward(*tensors[::-1])


class Plain(ConvPass):
    def forward(self, x):
        return super().forward(x)


@pytest.mark.parametrize(
    "kinds", [(Doubled, Concatenate, ConvPass), (Upsample, Reversed, ConvPass), (Upsample, Concatenate, Plain)]
)
def test_kinds_derived_from_these_compute_as_they_say(kinds):
    upsample, join, conv_pass = kinds
    nodes = [
        upsample(["c"], ["up"], (2, 2)),
        join(["up", "a"], ["join"]),
        conv_pass(["join"], ["d"], 4, 2, [(3, 3)], activation=None),
    ]
    net = randomize(LeibNet(nodes, {"a": TensorSpec((8, 8), 2), "c": TensorSpec((16, 16), 2)}, ["d"]))
    request = {"d": Roi((8, 0), (40, 24))}
    inputs = random_inputs(net.plan(request))
    with torch.no_grad():
        found, expected = (net(inputs, plan)["d"] for plan in (net.plan(request), plan_at_length(net, request)))
    assert torch.equal(found, expected)


class Scaled(nn.Module):
    """A layer in the place of another, whose weight is to be seen nowhere."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.layer(x)


def replace(net: LeibNet) -> None:
    net.nodes["out_conv_0"].layers[0] = Scaled(net.nodes["out_conv_0"].layers[0])


def hook(net: LeibNet) -> None:
    net.nodes["out_conv_0"].layers[0].register_forward_hook(lambda layer, inputs, output: 2 * output)


def normalise(net: LeibNet) -> None:
    torch.nn.utils.parametrizations.weight_norm(net.nodes["out_conv_0"].layers[0])
    with torch.no_grad():
        net.nodes["out_conv_0"].layers[0].parametrizations.weight.original0.mul_(3)


def prune(net: LeibNet) -> None:
    layer = net.nodes["out_conv_0"].layers[0]
    torch.nn.utils.prune.custom_from_mask(layer, "weight", (torch.rand(layer.weight.shape) < 0.5).double())


@pytest.mark.parametrize("change", [replace, hook, normalise, prune])
def test_a_layer_that_was_changed_is_called_whenever_the_plan_was_made(change):
    net = randomize(build_unet((8, 8), base_nc=2, norm_layer=None))
    request = {"output": Roi((8, 8), (24, 40))}
    before = net.plan(request)
    inputs = random_inputs(before)
    with torch.no_grad():
        original = net(inputs, before)["output"]
    change(net)
    for _ in range(2):  # what hooks compute before is not to be used twice
        found, expected = (net(inputs, plan)["output"] for plan in (before, plan_at_length(net, request)))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        found.sum().backward()
    assert not torch.equal(found, original)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of unfolding, which torch has no rule for
def test_gradients_sample_by_sample():
    net = build_unet((8, 8), base_nc=2, norm_layer=None).double()
    plan = net.plan({"output": Roi((8, 8), (16, 16))})
    specialized, (inputs,) = net.specialize(plan), random_inputs(plan, batch=3).values()
    weights = {name: weight.detach() for name, weight in specialized.named_parameters()}

    def loss(weights, x):
        return torch.func.functional_call(specialized, weights, (x[None],))[0].sum()

    together = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, inputs)
    for index, x in enumerate(inputs):
        for name, gradient in torch.func.grad(loss)(weights, x).items():
            torch.testing.assert_close(together[name][index], gradient, rtol=1e-9, atol=1e-9)


def test_what_others_read_too_is_made_for_them():
    """The join is read by two passes, of which one is computed without it."""
    nodes = [
        ConvPass(["a"], ["fine"], 1, 2, [(3, 3)]),
        ConvPass(["coarse"], ["low"], 1, 2, [(3, 3)]),
        Upsample(["low"], ["up"], (2, 2)),
        Concatenate(["up", "fine"], ["join"]),
        ConvPass(["join"], ["plain"], 4, 1, [(3, 3)]),
        ConvPass(["join"], ["normed"], 4, 1, [(3, 3)], norm_layer="batch"),
    ]
    net = LeibNet(nodes, {**A, "coarse": TensorSpec((16, 16), 1)}, ["plain", "normed", "join"])
    roi = Roi((8, 24), (40, 24))
    assert "join" not in net.plan({"plain": roi}).rois
    both = net.plan({"plain": roi, "normed": roi, "join": roi})
    assert {"up", "join"} <= set(both.rois)
    alone, inputs = net.plan({"plain": roi}), random_inputs(both)
    with torch.no_grad():
        outputs = net.double().eval()(inputs, both)
        small = {key: crop_tensor(inputs[key], both.tensor(key).crop_to(r)) for key, r in alone.inputs.items()}
        torch.testing.assert_close(net(small, alone)["plain"], outputs["plain"], rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------------------------------------------ crops


@given(st.data())
def test_a_crop_is_a_view_and_its_gradient_lands_where_it_was(data):
    shape = data.draw(st.lists(st.integers(1, 6), min_size=4, max_size=5))
    bounds = [data.draw(st.tuples(st.integers(0, n - 1), st.integers(1, n))) for n in shape[2:]]
    crop = tuple((min(first, past - 1), past) for first, past in bounds)
    index = (..., *(slice(*b) for b in crop))
    tensor = channels_last(torch.randn(shape))
    part = crop_tensor(tensor, crop)
    assert torch.equal(part, tensor[index])
    assert part.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    leaf = tensor.clone().requires_grad_()
    weights = torch.randn_like(part)
    (crop_tensor(leaf, crop) * weights).sum().backward()
    expected = torch.zeros_like(tensor)
    expected[index] = weights
    assert torch.equal(leaf.grad, expected)
