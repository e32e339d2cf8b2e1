"""(b) Tiles of any tiling agree with the whole."""

from __future__ import annotations

import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scalenet_gp import LeibNet, build_unet
from scalenet_gp.testing import crop_to_roi, random_inputs, randomize
from tests.scalenet_gp.graph.strategies import networks, requests, rois, tilings
from tests.scalenet_gp.helpers import values


def crop_inputs(net: LeibNet, inputs, whole, part):
    return {
        key: crop_to_roi(inputs[key], whole.inputs[key], roi, net.voxel_size[key]) for key, roi in part.inputs.items()
    }


@given(st.data())
@settings(max_examples=80)
def test_tiles_agree_with_the_whole(data):
    net = data.draw(networks(linear=False))
    key = data.draw(st.sampled_from(net.output_keys))
    near = Coordinate(data.draw(st.integers(-1000, 1000)) for _ in range(net.dims))
    roi = data.draw(rois(net.voxel_size[key], near, most=6))
    whole = net.plan({key: roi})
    assume(values(whole) < 150_000)
    tiles = data.draw(tilings(roi, net.voxel_size[key]))
    randomize(net)
    assert net.tileable
    inputs = random_inputs(whole)
    with torch.no_grad():
        together = net(inputs, whole)[key]
        assert tuple(together.shape[2:]) == tuple(roi.shape / net.voxel_size[key])
        assert sum(tile.size for tile in tiles) == roi.size
        for tile in tiles:
            plan = net.plan({key: tile})
            alone = net(crop_inputs(net, inputs, whole, plan), plan)[key]
            part = crop_to_roi(together, roi, tile, net.voxel_size[key])
            torch.testing.assert_close(alone, part, rtol=1e-9, atol=1e-9)


@given(st.data())
@settings(max_examples=40)
def test_what_else_is_requested_changes_no_output(data):
    net = data.draw(networks(linear=False))
    request = data.draw(requests(net))
    whole = net.plan(request)
    assume(values(whole) < 150_000)
    randomize(net)
    inputs = random_inputs(whole)
    with torch.no_grad():
        together = net(inputs, whole)
        assert list(together) == list(whole.outputs)
        for key, roi in request.items():
            plan = net.plan({key: roi})
            alone = net(crop_inputs(net, inputs, whole, plan), plan)
            assert list(alone) == [key]
            torch.testing.assert_close(alone[key], together[key], rtol=1e-9, atol=1e-9)


TILEABLE = {
    "plain": {},
    "batch": {"norm_layer": "batch"},
    "calibrated group": {"norm_layer": "calibrated_group"},
    "dropout": {"dropout_prob": 0.5},
    "residual": {"residual": True},
    "dilated": {"dilations": [(2, 1), (1, 2)]},
    "separable": {"separable": True},
    "linear": {"upsample_mode": "linear"},
}
NOT_TILEABLE = {
    "instance": {"norm_layer": "instance"},
    "group": {"norm_layer": "group"},
    "squeeze": {"squeeze_excitation": True},
    "eca": {"eca": True},
}


def tiling_error(net: LeibNet, key: str) -> float:
    """The difference of the first of four tiles from the whole."""
    size = net.voxel_size[key]
    roi, tile = Roi((0, 0), size * 8), Roi((0, 0), size * 4)
    whole, part = net.plan({key: roi}), net.plan({key: tile})
    inputs = random_inputs(whole)
    with torch.no_grad():
        together = crop_to_roi(net(inputs, whole)[key], roi, tile, size)
        alone = net(crop_inputs(net, inputs, whole, part), part)[key]
    return (alone - together).abs().max().item()


@pytest.mark.parametrize("name", TILEABLE)
def test_a_network_that_says_it_tiles_does(name):
    net = randomize(build_unet((8, 8), base_nc=4, final_activation="Identity", **TILEABLE[name]))
    assert net.tileable
    assert tiling_error(net, "output") < 1e-10


@pytest.mark.parametrize("name", NOT_TILEABLE)
def test_a_network_that_depends_on_its_extent_says_so(name):
    net = randomize(build_unet((8, 8), base_nc=4, final_activation="Identity", **NOT_TILEABLE[name]))
    assert not net.tileable
    assert tiling_error(net, "output") > 1e-6
