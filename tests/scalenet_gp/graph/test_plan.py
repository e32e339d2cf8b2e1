"""Plans as values: shifted, compared, hashed, printed."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp import LeibNet, Plan, TensorSpec, build_scalenet, build_unet
from scalenet_gp.layers import Concatenate, ConvPass, Pool, Upsample
from tests.scalenet_gp.graph.strategies import networks, requests


def small_scalenet() -> LeibNet:
    return build_scalenet([{"top_resolution": (r, r), "base_nc": 1} for r in (32, 8)])


@given(st.data())
@settings(max_examples=60)
def test_a_shifted_plan_is_the_plan_made_there(data):
    net = data.draw(networks(linear=False))
    request = data.draw(requests(net))
    plan = net.plan(request)
    offset = plan.step * Coordinate(data.draw(st.integers(-3, 3)) for _ in range(net.dims))
    there = net.plan({key: roi.shift(offset) for key, roi in request.items()})
    assert plan.shifted(offset) == there
    assert hash(plan.shifted(offset)) == hash(there)
    assert plan.shifted(offset).shifted(-offset) == plan
    assert (there == plan) == (offset == plan.step * 0)
    assert plan.outputs == request
    for tensor in plan.tensors:
        assert all(begin % size == 0 for begin, size in zip(tensor.begin, tensor.voxel_size, strict=True))


@pytest.mark.parametrize("offset", [(64, 0), (0, -8), (128, 127), (128,), (128, 128, 128)])
def test_a_shift_off_the_lattices_is_refused(offset):
    plan = small_scalenet().plan({"1_output": Roi((0, 0), (8, 8))})
    assert plan.step == Coordinate(128, 128)
    with pytest.raises(ValueError) as caught:
        plan.shifted(offset)
    assert str(offset) in str(caught.value)
    assert "multiples of (128, 128) keep them" in str(caught.value)


def test_the_step_is_that_of_the_tensors_in_the_plan():
    assert small_scalenet().plan({"0_output": Roi((0, 0), (32, 32))}).step == Coordinate(128, 128)
    node = ConvPass(["a"], ["b"], 1, 1, [(3, 3)])
    coarser = Pool(["b"], ["c"], (2, 3))
    net = LeibNet([node, coarser], {"a": TensorSpec((8, 8), 1)}, ["b", "c"])
    assert net.plan({"b": Roi((0, 0), (8, 8))}).step == Coordinate(8, 8)
    assert net.plan({"c": Roi((0, 0), (16, 24))}).step == Coordinate(16, 24)


def test_equal_requests_give_equal_plans_in_whatever_order_they_are_made():
    net = small_scalenet()
    request = {"0_output": Roi((0, 0), (32, 32)), "1_output": Roi((0, 8), (8, 8))}
    plan, turned = net.plan(request), net.plan(dict(reversed(request.items())))
    assert plan == turned
    assert len({plan, turned, net.plan({"0_output": Roi((0, 0), (32, 32))})}) == 2
    assert list(plan.inputs) == ["0_input", "1_input"]
    assert list(plan.outputs) == ["0_output", "1_output"]
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert copy.deepcopy(plan) == plan


def test_a_plan_does_not_follow_the_roi_that_it_was_made_from():
    """funlib's ROIs can be changed in place."""
    net = small_scalenet()
    roi = Roi((0, 0), (8, 8))
    plan = net.plan({"1_output": roi})
    roi.offset = Coordinate(80, 80)
    plan.inputs["1_input"].offset = Coordinate(0, 0)
    assert plan == net.plan({"1_output": Roi((0, 0), (8, 8))})
    with pytest.raises(AttributeError):
        plan.network = ""


def test_the_table_lists_every_tensor():
    plan = small_scalenet().plan({"1_output": Roi((-8, 16), (16, 8)), "0_output": Roi((0, 0), (32, 32))})
    lines = str(plan).splitlines()
    assert lines[0].split() == ["tensor", "voxel", "size", "begin", "shape", "channels", "MiB"]
    assert [line.split()[0] for line in lines[1:]] == [tensor.name for tensor in plan.tensors]
    assert len({len(line) for line in lines}) == 1
    row = next(line for line in lines if line.startswith("1_output"))
    assert row.split("  ")[0] == "1_output"
    assert [cell.strip() for cell in row.split("  ") if cell][1:] == ["8 × 8", "-8, 16", "2 × 1", "1", "0.00"]


def test_a_planned_tensor_knows_its_memory():
    plan = build_unet((8, 8), base_nc=3).plan({"output": Roi((0, 0), (8, 8))})
    tensor = plan.tensor("in_conv_0")
    assert tensor.channels == 3
    assert tensor.numbytes() == 4 * 3 * math.prod(tensor.shape)
    assert tensor.numbytes(itemsize=2) == 2 * 3 * math.prod(tensor.shape)
    assert tensor.roi == plan.rois["in_conv_0"]


def test_a_tensor_that_is_not_in_the_plan():
    plan: Plan = small_scalenet().plan({"0_output": Roi((0, 0), (32, 32))})
    with pytest.raises(KeyError, match="no tensor '1_input'; it has 0_input, 0_in_conv_0"):
        plan.tensor("1_input")


def test_only_what_an_output_needs_is_planned():
    plan = small_scalenet().plan({"0_output": Roi((0, 0), (32, 32))})
    assert list(plan.inputs) == ["0_input"]
    assert all(tensor.name.startswith("0_") for tensor in plan.tensors)
    assert all(step.node.startswith("0_") for step in plan.steps)


def test_channels_are_joined_at_exactly_the_roi_that_the_reader_needs():
    net = build_unet((8, 8), base_nc=1, upsample_mode="linear")
    plan = net.plan({"output": Roi((8, 24), (24, 8))})
    margin = Coordinate(2, 2)
    for level in (0, 1):
        size = net.voxel_size[f"join_{level}"]
        assert plan.rois[f"join_{level}"] == plan.rois[f"out_conv_{level}"].grow(margin * size, margin * size)
    (join,) = (step for step in plan.steps if step.node == "join_0")
    for read in join.reads:
        assert part(plan.rois[read.tensor], read.crop, net.voxel_size[read.tensor]) == plan.rois["join_0"]
    assert plan.rois["in_conv_0"].contains(plan.rois["join_0"])
    assert plan.rois["in_conv_0"] != plan.rois["join_0"]


@pytest.mark.parametrize("begin", [0, 8, 16, 24])
def test_what_is_only_repeated_and_joined_is_read_where_it_comes_from(begin):
    net = build_unet((8, 8), base_nc=1, norm_layer=None)  # a normalization reads the whole joined tensor
    plan = net.plan({"output": Roi((begin, 24), (24, 8))})
    assert not {"upsample_0", "join_0", "upsample_1", "join_1"} & set(plan.rois)
    (step,) = (step for step in plan.steps if step.node == "out_conv_0")
    coarse, skip = step.reads
    joined = plan.rois["out_conv_0"].grow(Coordinate(16, 16), Coordinate(16, 16))
    assert (coarse.tensor, coarse.factor, skip.tensor, skip.factor) == ("out_conv_1", (2, 2), "in_conv_0", None)
    assert part(plan.rois["in_conv_0"], skip.crop, net.voxel_size["in_conv_0"]) == joined
    repeated = part(plan.rois["out_conv_1"], coarse.crop, net.voxel_size["out_conv_1"])
    assert repeated == plan.rois["out_conv_1"] == joined.snap_to_grid(Coordinate(16, 16))
    assert part(repeated, coarse.crop_repeated, Coordinate(8, 8)) == joined


def part(roi: Roi, crop, voxel_size: Coordinate) -> Roi:
    begin = roi.begin + Coordinate(first for first, _ in crop) * voxel_size
    return Roi(begin, Coordinate(past - first for first, past in crop) * voxel_size)


def test_more_may_be_made_than_is_kept():
    """Upsampling makes whole coarse voxels; only what is read of them is kept."""
    nodes = [Pool(["a"], ["b"], (4, 4)), Upsample(["b"], ["c"], (4, 4)), Concatenate(["a", "c"], ["d"])]
    net = LeibNet(nodes, {"a": TensorSpec((1, 1), 1)}, ["d"])
    plan = net.plan({"d": Roi((3, -2), (2, 1))})
    assert plan.rois == {
        "a": Roi((0, -4), (8, 4)),
        "b": Roi((0, -4), (8, 4)),
        "c": Roi((3, -2), (2, 1)),
        "d": Roi((3, -2), (2, 1)),
    }
    (up,) = (step for step in plan.steps if step.node == "c")
    assert up.keeps == (("c", ((3, 5), (2, 3))),)


GOOD = Roi((0, 0), (8, 8))


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({}, ValueError, "ask for at least one output of 0_output, 1_output"),
        (
            {"1_input": GOOD},
            KeyError,
            "there is no output '1_input'; did you mean 1_output? There are",
        ),
        ({"1_output": Roi((0,) * 3, (8,) * 3)}, ValueError, "'1_output': the ROI [0:8, 0:8, 0:8] (8, 8, 8) has 3 axes"),
        ({"1_output": Roi((0, 0), (0, 8))}, ValueError, "'1_output': the ROI [empty ROI] is empty"),
        ({"1_output": Roi((0, 0), (None, 8))}, ValueError, "'1_output': the ROI [:, 0:8] (inf, 8) is unbounded"),
        (
            {"1_output": Roi((4, 0), (24, 8))},
            ValueError,
            "'1_output': the ROI [4:28, 0:8] (24, 8) is off the lattice, whose voxels are (8, 8) world units; on it "
            "are [0:32, 0:8] (32, 8) around it or [8:24, 0:8] (16, 8) inside it",
        ),
        (
            {"0_output": Roi((0, 0), (32, 32)), "1_output": Roi((0, 1), (8, 6))},
            ValueError,
            "whose voxels are (8, 8) world units; on it are [0:8, 0:8] (8, 8) around it",
        ),
    ],
)
def test_requests_that_no_plan_answers(request_, error, message):
    with pytest.raises(error) as caught:
        small_scalenet().plan(request_)
    assert message in caught.value.args[0]


def test_fractional_voxel_sizes_count_in_world_units():
    net = build_unet((50, "4.6", 4.6), base_nc=1, downsample_factors=[(1, 2, 2)], kernel_sizes=[(1, 3, 3)])
    assert net.unit.denominator == 5
    assert net.voxel_size["output"] == Coordinate(250, 23, 23)
    assert net.voxel_size["bottleneck"] == Coordinate(250, 46, 46)
    plan = net.plan({"output": Roi((250, 23, -23), (250, 23, 23))})
    assert plan.tensor("output").shape == (1, 1, 1)
    assert all(size % 23 == 0 for size in plan.inputs["input"].shape[1:])
