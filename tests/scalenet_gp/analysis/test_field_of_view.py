"""The field of view of an output voxel, against the support of its gradient and against analysis."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scalenet_gp import LeibNet, TensorSpec, build_scalenet, build_unet
from scalenet_gp.analysis.field_of_view import effective_receptive_field, receptive_field
from scalenet_gp.layers import ConvPass, Pool
from tests.scalenet_gp.graph.strategies import networks
from tests.scalenet_gp.helpers import averaging, positive, values, zeros


@given(st.data())
@settings(max_examples=25)
def test_the_theoretical_one_is_the_support_of_the_gradient(data):
    net = data.draw(networks(linear=True))
    key = data.draw(st.sampled_from(net.output_keys))
    voxel_size = net.voxel_size[key]
    places = net.plan({key: Roi((0,) * net.dims, voxel_size)}).step / voxel_size
    plans = [net.plan({key: Roi(voxel_size * place, voxel_size)}) for place in range(max(places))]
    assume(sum(map(values, plans)) < 500_000)
    positive(net)
    largest: dict[str, Coordinate] = {}
    for plan in plans:
        inputs = zeros(plan)
        net(inputs, plan)[key].sum().backward()
        for name, tensor in inputs.items():
            where = tensor.grad.abs().sum(dim=(0, 1)).nonzero()
            size = Coordinate((where.max(dim=0).values - where.min(dim=0).values + 1).tolist()) * net.voxel_size[name]
            largest[name] = Coordinate(map(max, size, largest.get(name, size)))
    assert receptive_field(net.graph, key) == largest


def test_that_of_three_scales():
    net = build_scalenet([{"top_resolution": (r,) * 3, "base_nc": 1} for r in (128, 32, 8)])
    assert receptive_field(net.graph, "0_output") == {"0_input": Coordinate((44 * 128,) * 3)}
    assert receptive_field(net.graph, "2_output") == {
        "0_input": Coordinate((56 * 128,) * 3),
        "1_input": Coordinate((52 * 32,) * 3),
        "2_input": Coordinate((44 * 8,) * 3),
    }


def mean_filters(count: int) -> LeibNet:
    """A chain of means over 3 x 5 voxels."""
    names = ["a", *(f"b{index}" for index in range(count))]
    nodes = [
        ConvPass([read], [made], 1, 1, [(3, 5)], activation="Identity") for read, made in itertools.pairwise(names)
    ]
    return averaging(LeibNet(nodes, {"a": TensorSpec((8, "4.6"), 1)}, [names[-1]]))


@pytest.mark.parametrize("count", [1, 4, 20])
def test_variances_of_mean_filters_add(count):
    net = mean_filters(count)
    (key,) = net.output_keys
    (field,) = effective_receptive_field(net.graph, key, samples=2).values()
    assert math.isclose(field.gradient.sum().item(), 1)
    for axis, width in enumerate((3, 5)):
        profile = field.gradient.sum(dim=1 - axis)
        place = torch.arange(len(profile), dtype=torch.float64) - (len(profile) - 1) / 2
        assert abs((profile * place).sum().item()) < 1e-9
        assert math.isclose((profile * place**2).sum().item(), count * (width**2 - 1) / 12)
    spread = (count * 8 / 12) ** 0.5 * 8
    if count == 20:  # all but normal: 95 % lie within two standard deviations of 1.96, to a voxel
        assert abs(field.extent[0] - 2 * 1.96 * spread) <= 8 * 1.5


def test_the_extent_is_the_shortest_stretch_with_the_share():
    net = mean_filters(3)
    for share in (0.5, 0.95, 1):
        (field,) = effective_receptive_field(net.graph, "b2", samples=1, share=share).values()
        for axis, size in enumerate((Fraction(8), Fraction("4.6"))):
            profile = field.gradient.sum(dim=1 - axis).numpy()
            held = [n for n in range(1, len(profile) + 1) if np.convolve(profile, np.ones(n)).max() > share - 1e-9]
            assert field.extent[axis] == held[0] * size
    assert field.extent == tuple(
        size * n for size, n in zip((Fraction(8), Fraction("4.6")), field.gradient.shape, strict=True)
    )


def test_its_map_lies_where_the_plan_says():
    net = build_scalenet([{"top_resolution": (r, r), "base_nc": 2} for r in (32, 8)])
    plan = net.plan({"1_output": Roi((0, 0), (8, 8))})
    fields = effective_receptive_field(net.graph, "1_output", samples=2)
    assert {key: field.roi for key, field in fields.items()} == plan.inputs
    assert {key: tuple(field.gradient.shape) for key, field in fields.items()} == {
        key: tensor.shape for key, tensor in plan.input_tensors.items()
    }
    for key, field in fields.items():
        assert all(0 < length <= n for length, n in zip(field.extent, field.roi.shape * net.unit, strict=True)), key


def test_a_unet_looks_at_a_part_of_what_it_could():
    torch.manual_seed(0)
    net = build_unet((8, 8), base_nc=8)
    (field,) = effective_receptive_field(net.graph, "output").values()
    assert all(length < s for length, s in zip(field.extent, field.roi.shape, strict=True))


def test_the_network_and_the_random_numbers_are_left_alone():
    torch.manual_seed(0)
    net = build_unet((8, 8), base_nc=8, norm_layer="batch", dropout_prob=0.3)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    random = torch.get_rng_state()
    first, again, other = (
        effective_receptive_field(net.graph, "output", samples=2, seed=seed)["input"].gradient for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), random)
    assert net.training
    assert all(module.training for module in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


def test_a_network_without_weights_has_one_too():
    net = LeibNet([Pool(["a"], ["b"], (2, 3), "mean")], {"a": TensorSpec((1, 1), 2)}, ["b"])
    field = effective_receptive_field(net.graph, "b", samples=1)["a"]
    assert torch.allclose(field.gradient, torch.full((2, 3), 2 / 6, dtype=torch.float64))


def test_what_there_is_not():
    net = build_unet((8, 8), base_nc=1)
    for ask in (receptive_field, effective_receptive_field):
        with pytest.raises(KeyError, match="no output 'input'; there is only output"):
            ask(net.graph, "input")
    for options in ({"samples": 0}, {"share": 0}, {"share": 1.1}):
        with pytest.raises(ValueError, match=r"samples is at least 1 and share in \(0, 1\]"):
            effective_receptive_field(net.graph, "output", **options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(-1)
    with pytest.raises(ValueError, match="no gradient for any of 16 random inputs"):
        effective_receptive_field(net.graph, "output")
