"""A box that is swept slab by slab is what one pass over the whole box gives."""

from __future__ import annotations

import math

import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scalenet_gp import build_attentive_scalenet, build_scalenet, build_unet
from scalenet_gp.inference.slabbed_inference import SlabbedInference
from scalenet_gp.testing import random_inputs, randomize
from tests.scalenet_gp.graph.strategies import networks, requests
from tests.scalenet_gp.helpers import values

SUBNETS = [{"top_resolution": (size,) * 3, "base_nc": 2, "downsample_factors": [(2, 2, 2)]} for size in (32, 16, 8)]


@given(st.data())
@settings(max_examples=40)
def test_slabs_agree_with_the_whole(data):
    net = data.draw(networks(linear=False))
    request = data.draw(requests(net))
    whole = net.plan(request)
    assume(values(whole) < 150_000)
    sizes = [net.voxel_size[key][0] for key in request]
    thickness = torch.tensor(sizes).prod().item() * data.draw(st.integers(1, 4))
    randomize(net)
    inputs = random_inputs(whole)
    sweep = SlabbedInference.of(net, request, thickness)
    with torch.no_grad():
        swept, together = sweep.run(net, inputs), net(inputs, whole)
    assert list(swept) == list(together)
    for key in request:
        torch.testing.assert_close(swept[key], together[key], rtol=1e-9, atol=1e-9)


@given(st.data())
@settings(max_examples=40)
def test_outputs_may_begin_and_end_anywhere(data):
    net = data.draw(networks(linear=False))
    request = {}
    for key, roi in data.draw(requests(net)).items():
        size = net.voxel_size[key]
        moved = Coordinate(data.draw(st.integers(-6, 6)) * voxels for voxels in size)
        longer = Coordinate((data.draw(st.integers(0, 6)) * size[0], *(0,) * (net.dims - 1)))
        request[key] = Roi(roi.begin + moved, roi.shape + longer)
    try:
        whole = net.plan(request)
    except ValueError:
        assume(False)
    assume(values(whole) < 300_000)
    thickness = math.lcm(*(net.voxel_size[key][0] for key in request)) * data.draw(st.integers(1, 6))
    randomize(net)
    inputs = random_inputs(whole)
    with torch.no_grad():
        swept, together = SlabbedInference.of(net, request, thickness).run(net, inputs), net(inputs, whole)
    for key in request:
        torch.testing.assert_close(swept[key], together[key], rtol=1e-9, atol=1e-9)


@given(st.data())
@settings(max_examples=30)
def test_no_plane_of_any_tensor_is_made_twice_or_missed(data):
    net = data.draw(networks(linear=False))
    request = data.draw(requests(net))
    whole = net.plan(request)
    thickness = torch.tensor([net.voxel_size[key][0] for key in request]).prod().item() * data.draw(st.integers(1, 4))
    sweep = SlabbedInference.of(net, request, thickness)
    made: dict[str, list[int]] = {}
    for slab in sweep.slabs:
        for name, first, past in slab.inputs:
            made.setdefault(name, []).extend(range(first, past))
        for turn in slab.steps:
            kept = {name: crop for name, crop in turn.step.keeps if crop is not None}
            for name, first in turn.appends:
                begin, past = kept[name][0]
                made.setdefault(name, []).extend(range(first, first + past - begin))
    for tensor in whole.tensors:
        planes = made[tensor.name]
        assert planes == sorted(set(planes)), tensor.name
        assert set(planes) <= set(range(tensor.shape[0]))
    for key, roi in whole.outputs.items():
        first, past = whole.tensor(key).crop_to(roi)[0]
        assert set(range(first, past)) <= set(made[key])


@pytest.mark.parametrize(
    "net",
    [
        build_unet(top_resolution=(8, 8, 8), base_nc=2),
        build_scalenet(SUBNETS),
        build_attentive_scalenet(SUBNETS),
    ],
    ids=["unet", "scalenet", "attentive"],
)
def test_each_slab_takes_in_as_much_as_it_moves(net):
    """At multiples of the step, nothing but a slab ahead of the outputs sees the halo along the axis."""
    key = net.output_keys[-1]
    step = net.plan({key: Roi((0, 0, 0), net.voxel_size[key])}).step
    thickness = step[0]
    request = {key: Roi((0, 0, 0), Coordinate((6 * thickness, *(2 * size for size in net.voxel_size[key][1:]))))}
    randomize(net)
    whole = net.plan(request)
    sweep = SlabbedInference.of(net, request, thickness)
    ahead, *slabs = sweep.slabs
    assert not ahead.outputs
    assert len(slabs) == 6
    for slab in slabs:
        assert slab.outputs
        for name, first, past in slab.inputs:
            assert (past - first) * net.voxel_size[name][0] == thickness
    inputs = random_inputs(whole)
    with torch.no_grad():
        torch.testing.assert_close(sweep.run(net, inputs)[key], net(inputs, whole)[key], rtol=1e-9, atol=1e-9)
        moved = sweep.shifted(step)
        assert moved.plan.outputs[key] == request[key].shift(step)
        assert torch.equal(moved.run(net, inputs)[key], sweep.run(net, inputs)[key])


def test_what_cannot_be_swept_is_refused():
    net = build_unet(top_resolution=(8, 8, 8), base_nc=2)
    roi = Roi((0, 0, 0), (64, 64, 64))
    with pytest.raises(ValueError, match="slabs of 12 world units are not whole voxels of 'output', which have 8"):
        SlabbedInference.of(net, {"output": roi}, 12)
    with pytest.raises(ValueError, match="slabs of 0"):
        SlabbedInference.of(net, {"output": roi}, 0)
    whole = build_unet(top_resolution=(8, 8, 8), base_nc=2, norm_layer="instance")
    assert len(SlabbedInference.of(whole, {"output": roi}, 64).slabs) == 1
    with pytest.raises(ValueError, match=r"depend on the whole input.*64 make it one slab"):
        SlabbedInference.of(whole, {"output": roi}, 32)
    with pytest.raises(ValueError, match="the plan is for network"):
        SlabbedInference.of(net, {"output": roi}, 32).run(whole, {})
