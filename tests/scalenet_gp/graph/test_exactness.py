"""(a) What a plan asks of an input is what the outputs depend on: no voxel more, no voxel less."""

from __future__ import annotations

import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from scalenet_gp import LeibNet, build_scalenet
from scalenet_gp.testing import crop_to_roi
from tests.scalenet_gp.graph.strategies import networks, requests
from tests.scalenet_gp.helpers import positive, values, zeros


def support(gradient: Tensor, roi: Roi, voxel_size: Coordinate) -> Roi:
    """The world ROI of the smallest box that holds every nonzero value."""
    where = gradient.abs().sum(dim=(0, 1)).nonzero()
    first, past = Coordinate(where.min(dim=0).values.tolist()), Coordinate((where.max(dim=0).values + 1).tolist())
    return Roi(roi.begin + first * voxel_size, (past - first) * voxel_size)


def gradients(net: LeibNet, computed: dict[str, Roi], wanted: dict[str, Roi]) -> dict[str, tuple[Tensor, Roi]]:
    """The gradient of the part ``wanted`` of the outputs ``computed``, with the ROI of the input it is of."""
    plan = net.plan(computed)
    inputs = zeros(plan)
    outputs = net(inputs, plan)
    sum(crop_to_roi(outputs[k], computed[k], wanted[k], net.voxel_size[k]).sum() for k in wanted).backward()
    return {key: (inputs[key].grad, roi) for key, roi in plan.inputs.items()}


@given(st.data())
@settings(max_examples=70)
def test_every_plane_of_the_planned_inputs_matters(data):
    net = data.draw(networks(linear=True))
    request = data.draw(requests(net))
    plan = net.plan(request)
    assume(values(plan) < 150_000)
    positive(net)
    for key, (gradient, roi) in gradients(net, request, request).items():
        assert roi == plan.inputs[key]
        for axis in range(2, gradient.ndim):
            for plane in (0, -1):
                assert gradient.select(axis, plane).abs().max() > 0, (key, axis, plane)


@given(st.data())
@settings(max_examples=70)
def test_nothing_beyond_the_planned_inputs_matters(data):
    """Computed as part of a larger output, the same output voxels depend on exactly the box that is planned."""
    net = data.draw(networks(linear=True))
    wanted = data.draw(requests(net))
    margin = data.draw(st.integers(1, 3))
    computed = {
        key: roi.grow(net.voxel_size[key] * margin, net.voxel_size[key] * margin) for key, roi in wanted.items()
    }
    assume(values(net.plan(computed)) < 150_000)
    positive(net)
    found = gradients(net, computed, wanted)
    assert {key: support(g, roi, net.voxel_size[key]) for key, (g, roi) in found.items()} == net.plan(wanted).inputs


@given(st.data())
@settings(max_examples=40)
def test_a_tensor_one_voxel_smaller_or_larger_is_refused(data):
    net = data.draw(networks(linear=True))
    plan = net.plan(data.draw(requests(net)))
    assume(values(plan) < 150_000)
    key = data.draw(st.sampled_from(sorted(plan.inputs)))
    axis = data.draw(st.integers(0, net.dims - 1))
    change = data.draw(st.sampled_from((-1, 1)))
    inputs = {name: torch.zeros(1, t.channels, *t.shape) for name, t in plan.input_tensors.items()}
    planned = plan.tensor(key)
    shape = [1, planned.channels, *planned.shape]
    shape[2 + axis] += change
    with pytest.raises(ValueError, match=f"'{key}' has shape") as caught:
        net({**inputs, key: torch.zeros(shape)}, plan)
    assert str(tuple(shape)) in str(caught.value)
    assert str(planned.roi) in str(caught.value)
    assert f"(batch, {planned.channels}, {', '.join(map(str, planned.shape))})" in str(caught.value)


def three_scales(**arguments: object) -> LeibNet:
    return build_scalenet([{"top_resolution": (r,) * 3, "base_nc": 1, **arguments} for r in (128, 32, 8)])


def test_the_default_scalenet_reads_52_52_and_44_voxels_for_four():
    plan = three_scales().plan({"2_output": Roi((16,) * 3, (32,) * 3)})
    shapes = {key: tensor.shape for key, tensor in plan.input_tensors.items()}
    assert shapes == {"0_input": (52,) * 3, "1_input": (52,) * 3, "2_input": (44,) * 3}


@pytest.mark.parametrize(("begin", "sizes"), [(16, (52, 52, 44)), (0, (52, 52, 48))])
def test_these_voxels_are_what_the_output_depends_on(begin, sizes):
    net = positive(three_scales(activation="Identity", final_activation="Identity", downsample_mode="mean"))
    wanted = {"2_output": Roi((begin,) * 3, (32,) * 3)}
    found = gradients(net, {"2_output": wanted["2_output"].grow((8,) * 3, (8,) * 3)}, wanted)
    boxes = {key: support(g, roi, net.voxel_size[key]) for key, (g, roi) in found.items()}
    assert [tuple(boxes[key].shape / net.voxel_size[key]) for key in net.input_keys] == [(n,) * 3 for n in sizes]
    assert boxes == net.plan(wanted).inputs


def needed_along(axis_begins: tuple[range, range, range]) -> dict[int, tuple[int, ...]]:
    """The voxels that four voxels need of each input, by where they begin; each plan tells of a place on each axis."""
    net, needed = three_scales(), {}
    for begin in zip(*axis_begins, strict=True):
        inputs = net.plan({"2_output": Roi(begin, (32,) * 3)}).input_tensors.values()
        needed |= {place: tuple(t.shape[axis] for t in inputs) for axis, place in enumerate(begin)}
    return needed


def test_what_four_voxels_need_depends_on_where_they_lie_in_the_coarse_ones():
    # a third of the places on each axis; two of them are looked at on two axes
    thirds = (range(0, 176, 8), range(176, 352, 8), range(336, 512, 8))
    needed = needed_along(thirds)
    before = needed_along(tuple(range(third.start - 512, third.stop - 512, 8) for third in thirds))
    assert sorted(needed) == list(range(0, 512, 8))
    assert {begin + 512: voxels for begin, voxels in before.items()} == needed
    assert set(needed.values()) == {(52, 48, 44), (52, 52, 44), (52, 52, 48), (56, 52, 44), (56, 52, 48)}
    assert {begin: needed[begin] for begin in (0, 16, 48)} == {0: (52, 52, 48), 16: (52, 52, 44), 48: (52, 48, 44)}
