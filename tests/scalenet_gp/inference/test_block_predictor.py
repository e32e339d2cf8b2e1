"""Blocks: what an ensemble makes of each, in slabs that fit into memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi

from scalenet_gp import build_scalenet, build_unet
from scalenet_gp.inference import (
    BlockPredictor,
    Ensemble,
    IntensityWindow,
    SlabbedInference,
    block_thickness,
    choose_slab_thickness,
    lattice_symmetries,
    slabbed_memory,
)
from scalenet_gp.inference.slab_thickness import predict_slabbed_memory
from scalenet_gp.testing import randomize

SUBNETS = [{"top_resolution": (size,) * 3, "base_nc": 2} for size in (32, 8)]
BLOCK = (256, 192, 128)


@pytest.fixture(scope="module")
def net():
    return randomize(build_scalenet(SUBNETS)).float()


def arrays(rois, net):
    generator = np.random.default_rng(0)
    return {
        key: generator.random((net.specs[key].channels, *(roi.shape / net.voxel_size[key])), dtype=np.float32)
        for key, roi in rois.items()
    }


@pytest.mark.parametrize("thickness", [None, 64, 128])
def test_a_block_is_what_the_network_makes_of_it(net, thickness):
    outputs = {"0_output": Roi((-128, 0, 64), BLOCK), "1_output": Roi((-128, 0, 64), BLOCK)}
    predictor = BlockPredictor(Ensemble([net]), thickness, "cpu")
    plan = net.plan(outputs)
    assert predictor.inputs(outputs) == plan.inputs
    inputs = arrays(plan.inputs, net)
    made = predictor.predict(inputs, outputs)
    with torch.no_grad():
        expected = net({key: torch.from_numpy(array)[None] for key, array in inputs.items()}, plan)
    assert list(made) == list(outputs)
    for key, array in made.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, expected[key][0].numpy(), atol=2e-6)


def test_blocks_a_period_apart_are_equal_to_the_bit_and_share_a_sweep(net):
    predictor = BlockPredictor(Ensemble([net]), 64, "cpu")
    first = {"1_output": Roi((0, 0, 0), BLOCK)}
    step = net.plan(first).step
    inputs = arrays(predictor.inputs(first), net)
    made = predictor.predict(inputs, first)["1_output"]
    other = {"1_output": Roi(step * Coordinate((1, -2, 3)), BLOCK)}
    assert np.array_equal(predictor.predict(inputs, other)["1_output"], made)
    assert [len(schedules) for schedules in predictor._schedules.values()] == [1]


def test_symmetric_members_are_swept_in_the_turned_world(net):
    ensemble = Ensemble([net], symmetries=lattice_symmetries(net)[:3], products=("mean", "variance"))
    outputs = {"1_output": Roi((0, 64, 0), BLOCK)}
    whole, slabs = (BlockPredictor(ensemble, thickness, "cpu") for thickness in (None, 64))
    inputs = arrays(whole.inputs(outputs), net)
    expected, made = whole.predict(inputs, outputs), slabs.predict(inputs, outputs)
    assert list(made) == ["1_output", "1_output/variance"]
    for name in made:
        np.testing.assert_allclose(made[name], expected[name], atol=2e-6)


def test_half_precision_is_near(net):
    outputs = {"1_output": Roi((0, 0, 0), (64, 64, 64))}
    other = build_scalenet(SUBNETS)
    other.load_state_dict(net.state_dict())
    full, half = (
        BlockPredictor(Ensemble([net]), device="cpu"),
        BlockPredictor(Ensemble([other]), 64, "cpu", torch.bfloat16),
    )
    inputs = arrays(full.inputs(outputs), net)
    assert next(other.parameters()).dtype == torch.bfloat16
    np.testing.assert_allclose(
        half.predict(inputs, outputs)["1_output"], full.predict(inputs, outputs)["1_output"], atol=0.05
    )


@pytest.fixture(scope="module")
def small():
    return build_unet(top_resolution=(8, 8, 8), base_nc=2, downsample_factors=[(2, 2, 2)], norm_layer=None)


def test_slabs_are_as_thick_as_is_of_use_and_as_memory_allows(small):
    wide = {"output": Roi((0, 0, 0), (4096, 4096, 4096))}
    assert choose_slab_thickness(small, wide, 2**40) == 32 * 8
    narrow = {"output": Roi((0, 0, 0), (4096, 512, 1024))}
    assert choose_slab_thickness(small, narrow, 2**40) == 4096
    outputs = {"output": Roi((0, 0, 0), (512, 2048, 1024))}
    step = small.plan(outputs).step[0]
    memory = {thickness: slabbed_memory(small, outputs, thickness) for thickness in (512, 4 * step)}
    assert list(memory.values()) == sorted(memory.values(), reverse=True)
    for thickness, needed in memory.items():
        assert choose_slab_thickness(small, outputs, needed) == thickness
    with pytest.raises(ValueError, match=r"\(64, 256, 128\) voxels of 'output' takes .* MiB of memory, in slabs of "):
        choose_slab_thickness(small, outputs, 2**20)


def test_memory_is_followed_no_farther_than_to_its_limit(small):
    sweep = SlabbedInference.of(small, {"output": Roi((0, 0, 0), (512, 256, 256))}, 128)
    peak = predict_slabbed_memory(small, sweep)
    assert predict_slabbed_memory(small, sweep, limit=peak) == peak
    for limit in (0, peak // 2, peak - 1):
        assert limit < predict_slabbed_memory(small, sweep, limit=limit) <= peak
    # of raw data that are shown slab by slab, what is shown comes on top
    assert predict_slabbed_memory(small, sweep, intensities={"input": IntensityWindow.of_range(torch.uint8)}) > peak


def test_what_depends_on_its_extent_is_not_cut():
    net = build_unet(top_resolution=(8, 8, 8), base_nc=2, downsample_factors=[(2, 2, 2)], norm_layer="instance")
    outputs = {"output": Roi((0, 0, 0), (256, 64, 64))}
    needed = slabbed_memory(net, outputs, 256)
    assert choose_slab_thickness(net, outputs, needed) == 256
    with pytest.raises(ValueError, match="make blocks smaller"):
        choose_slab_thickness(net, outputs, needed - 1)


def test_a_block_leaves_room_for_what_it_reads_and_makes(small):
    outputs = {"output": Roi((0, 0, 0), (4096, 1024, 2048))}
    alone = Ensemble([small])
    enough = slabbed_memory(small, outputs, 4096)
    thick = choose_slab_thickness(small, outputs, enough)
    assert block_thickness(alone, outputs, 2 * enough) == thick
    thinner = block_thickness(alone, outputs, slabbed_memory(small, outputs, thick))
    assert thinner < thick  # the raw data need some
    stored = IntensityWindow.of_range(torch.uint8)
    read = math.prod(alone.inputs(outputs)["input"].shape / small.voxel_size["input"])
    room = slabbed_memory(small, outputs, thick, intensities={"input": stored}) + 2 * read
    assert block_thickness(alone, outputs, room) < thick
    assert block_thickness(alone, outputs, room, intensities={"input": stored}) == thick  # less, as they are stored
    turned = Ensemble([small], symmetries=lattice_symmetries(small)[:2])
    assert block_thickness(turned, outputs, enough) <= thinner
