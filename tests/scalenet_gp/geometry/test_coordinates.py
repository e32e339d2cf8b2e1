"""(c) World coordinates survive: a network that only averages gives back the coordinates that it is fed."""

from __future__ import annotations

import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scalenet_gp import build_scalenet, build_unet
from scalenet_gp.layers import Sum
from tests.scalenet_gp.graph.strategies import graphs, networks, requests
from tests.scalenet_gp.helpers import averaging, centres, ramps, values


def deviations(net, request):
    """The values of each output minus the world coordinates of its voxels."""
    plan = net.plan(request)
    for node in net.nodes.values():
        if isinstance(node, Sum):
            node.register_forward_hook(lambda _, summed, total: total / len(summed))
    with torch.no_grad():
        outputs = averaging(net)(ramps(plan, net), plan)
    return {key: outputs[key] - centres(roi, net.voxel_size[key]) for key, roi in request.items()}


@given(st.data())
@settings(max_examples=80)
def test_without_upsampling_every_output_is_its_coordinates(data):
    net = data.draw(graphs(linear=True, upsampling=False))
    request = data.draw(requests(net))
    assume(values(net.plan(request)) < 150_000)
    for key, deviation in deviations(net, request).items():
        assert deviation.abs().max() < 1e-8, key


@given(st.data())
@settings(max_examples=80)
def test_upsampling_shifts_nothing(data):
    """Nearest neighbours make steps of a ramp: right on average over whole coarse voxels, wherever they begin."""
    net = data.draw(networks(linear=True))
    key = data.draw(st.sampled_from(net.output_keys))
    size = net.voxel_size[key]
    step = net.plan({key: Roi((0,) * net.dims, size)}).step
    begin = Coordinate(data.draw(st.integers(-20, 20)) for _ in size) * size
    request = {key: Roi(begin, step)}
    assume(values(net.plan(request)) < 300_000)
    (deviation,) = deviations(net, request).values()
    assert deviation.flatten(2).mean(dim=2).abs().max() < 1e-8


SCALENETS = {
    "2d": [{"top_resolution": (r, r), "base_nc": 2} for r in (128, 32, 8)],
    "2d_residual": [{"top_resolution": (r, r), "base_nc": 2, "residual": True} for r in (128, 32, 8)],
    "3d": [{"top_resolution": (r, r, r), "base_nc": 1} for r in (32, 8)],
    "3d_anisotropic": [
        {"top_resolution": size, "base_nc": 1, "downsample_factors": [(1, 2, 2), (2, 2, 2)], "kernel_sizes": kernels}
        for size, kernels in [((100, 16, 16), [(1, 3, 3)]), ((50, 4, 4), [(1, 3, 3), (2, 2, 2), (2, 2, 2)])]
    ],
    "3d_fractional": [
        {"top_resolution": size, "base_nc": 1, "downsample_factors": [(1, 2, 2)]}
        for size in [(50, "9.2", "9.2"), (50, "4.6", "4.6")]
    ],
}


@pytest.mark.parametrize("name", SCALENETS)
@pytest.mark.parametrize("modes", [("mean", "nearest"), ("strided", "transposed")])
def test_every_output_of_a_scalenet_lies_where_it_says(name, modes):
    linear = {"activation": "Identity", "final_activation": "Identity", "norm_layer": None}
    modes = dict(zip(("downsample_mode", "upsample_mode"), modes, strict=True))
    net = build_scalenet([{**subnet, **linear, **modes} for subnet in SCALENETS[name]])
    step = net.smallest_plan.step
    for key, deviation in deviations(net, {key: Roi(-step, step) for key in net.output_keys}).items():
        coarsest = torch.tensor(step, dtype=torch.float64)
        assert deviation.flatten(2).mean(dim=2).abs().max() < 1e-9, key
        assert (deviation.abs().amax(dim=tuple(range(1, deviation.ndim))) <= coarsest / 2).all(), key


def test_the_test_would_see_a_shift():
    linear = {"activation": "Identity", "final_activation": "Identity", "norm_layer": None}
    net = build_unet((8, 8), base_nc=1, downsample_mode="mean", **linear)
    plan = net.plan({"output": Roi((0, 0), (32, 32))})
    inputs = ramps(plan, net)
    with torch.no_grad():
        output = averaging(net)({"input": inputs["input"] + 4}, plan)["output"]
    assert (output - centres(plan.outputs["output"], net.voxel_size["output"])).mean().item() == pytest.approx(4)
