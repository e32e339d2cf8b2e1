"""Choosing sizes, against trying all of them."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scalenet_gp import LeibNet, Plan, TensorSpec, build_scalenet, build_unet
from scalenet_gp.analysis.cost import Cost, CostPredictor
from scalenet_gp.analysis.sizes import largest_plan, smallest_plan, valid_output_shapes
from scalenet_gp.layers import ConvPass, Pool, Upsample
from tests.scalenet_gp.graph.strategies import networks
from tests.scalenet_gp.helpers import values

MIB = 2**20


@cache
def predictor(net: LeibNet, **options: Any) -> CostPredictor:
    return CostPredictor(net.graph, **options)


@cache
def predict_cost(net: LeibNet, plan: Plan, **options: Any) -> Cost:
    """Predict the cost of a plan once, which several tests and lines ask for."""
    return predictor(net, **options).predict(plan)


def three_scales() -> LeibNet:
    return build_scalenet([{"top_resolution": (r,) * 3, "base_nc": 2} for r in (128, 32, 8)])


def box_of(plan: Plan) -> Roi:
    boxes = list(plan.outputs.values())
    assert all(box == boxes[0] for box in boxes)
    return boxes[0]


def grown(net: LeibNet, plan: Plan, steps: tuple[int, ...]) -> Plan:
    box = box_of(plan)
    larger = Roi(box.begin, box.shape + plan.step * Coordinate(steps))
    return net.plan(dict.fromkeys(plan.outputs, larger))


@given(st.data())
@settings(max_examples=40)
def test_the_smallest_plan_begins_where_the_fewest_values_are_needed(data):
    net = data.draw(networks(linear=False))
    keys = data.draw(st.lists(st.sampled_from(net.output_keys), min_size=1, unique=True))
    plan = smallest_plan(net.graph, keys)
    step, box = plan.step, box_of(plan)
    lattice = [math.lcm(*sizes) for sizes in zip(*(net.voxel_size[key] for key in keys), strict=True)]
    places = [range(0, s, size) for s, size in zip(step, lattice, strict=True)]
    assume(math.prod(map(len, places)) <= 150)
    assert box.shape == step
    tried = {begin: values(net.plan(dict.fromkeys(keys, Roi(begin, step)))) for begin in itertools.product(*places)}
    fewest = min(tried.values())
    assert values(plan) == fewest
    assert sum(box.begin) == min(sum(begin) for begin, needed in tried.items() if needed == fewest)


def test_the_unet_reads_44_voxels_for_four():
    plan = smallest_plan(build_unet((8, 8, 8), base_nc=2).graph)
    assert plan.tensor("input").shape == (44, 44, 44)
    assert box_of(plan) == Roi((16, 16, 16), (32, 32, 32))


def test_the_smallest_plan_of_three_scales():
    net = three_scales()
    plan = smallest_plan(net.graph)
    assert box_of(plan).shape == plan.step == (512, 512, 512)
    assert list(plan.outputs) == list(net.output_keys)
    assert values(plan) < values(net.plan(dict.fromkeys(net.output_keys, Roi((0,) * 3, plan.step))))
    fine = smallest_plan(net.graph, ["2_output"])
    shapes = {key: tensor.shape for key, tensor in fine.input_tensors.items()}
    assert shapes == {"0_input": (56,) * 3, "1_input": (64,) * 3, "2_input": (104,) * 3}


@pytest.mark.parametrize(("outputs", "error"), [([], ValueError), (["0_input"], KeyError)])
def test_outputs_that_cannot_be_asked_for(outputs, error):
    with pytest.raises(error, match="0_output, 1_output, 2_output"):
        smallest_plan(three_scales().graph, outputs)


@given(st.data())
@settings(max_examples=30)
def test_tiles_of_a_valid_shape_share_one_plan(data):
    net = data.draw(networks(linear=False))
    key = data.draw(st.sampled_from(net.output_keys))
    voxel_size = net.voxel_size[key]
    step = net.plan({key: Roi((0,) * net.dims, voxel_size)}).step
    most = step / voxel_size * 2
    options = valid_output_shapes(net.graph, key, most)
    assert [list(axis) for axis in options] == [[s // v, 2 * s // v] for s, v in zip(step, voxel_size, strict=True)]
    shape = Coordinate(data.draw(st.sampled_from(axis)) for axis in options)
    begin = voxel_size * Coordinate(data.draw(st.integers(-3, 3)) for _ in range(net.dims))
    plan = net.plan({key: Roi(begin, shape * voxel_size)})
    for axis in range(net.dims):
        offset = Coordinate(size * (a == axis) for a, size in enumerate(shape * voxel_size))
        assert plan.shifted(offset) == net.plan({key: Roi(begin + offset, shape * voxel_size)})


def test_tiles_of_other_shapes_do_not():
    net = build_unet((8, 8), base_nc=1)
    (options, _) = valid_output_shapes(net.graph, "output", (13, 4))
    assert options == (4, 8, 12)
    for size in set(range(1, 13)) - set(options):
        plan = net.plan({"output": Roi((0, 0), (8 * size, 32))})
        beside = net.plan({"output": Roi((8 * size, 0), (8 * size, 32))})
        with pytest.raises(ValueError, match="leaves the lattices"):
            plan.shifted((8 * size, 0))
        relative = [[Coordinate(t.begin) - p.outputs["output"].begin for t in p.tensors] for p in (plan, beside)]
        assert relative[0] != relative[1]


@pytest.mark.parametrize(
    ("output", "at_most", "error", "message"),
    [
        ("output", (64, 3), ValueError, r"at most \(64, 3\) voxels .* the smallest has \(4, 4\)"),
        ("output", (64, 64, 64), ValueError, r"at_most has 3 axes, \(64, 64, 64\); the network has 2"),
        ("input", (64, 64), KeyError, "no output 'input'; there is only output"),
    ],
)
def test_sizes_that_there_are_not(output, at_most, error, message):
    with pytest.raises(error, match=message):
        valid_output_shapes(build_unet((8, 8), base_nc=1).graph, output, at_most)


FLAT: dict[str, Any] = {"base_nc": 4, "downsample_factors": [(2, 2)], "convs_per_level": 1}
"""Options of a network of few operations, so that predictions take little time."""


def anisotropic() -> LeibNet:
    options: dict[str, Any] = {"kernel_sizes": [[(1, 3, 3)], [(3, 3, 3)]], "downsample_factors": [(1, 2, 2)]}
    return build_unet((40, 4, 4), base_nc=2, **options)


CASES = {
    "2D": lambda: build_unet((8, 8), **FLAT),
    "anisotropic": anisotropic,
    "scales": lambda: build_scalenet([{"top_resolution": (r, r), **FLAT, "base_nc": 3} for r in (16, 8)]),
}


@pytest.mark.parametrize(
    ("case", "training", "limits"),
    [("2D", True, (8 * MIB, 9 * MIB)), ("anisotropic", False, (8 * MIB,)), ("scales", False, (8 * MIB,))],
    ids=["2D", "anisotropic", "scales"],
)
def test_the_largest_plan_fits_and_none_that_is_a_step_larger_is_better(case, training, limits):
    net = CASES[case]()
    worth = []
    for limit in limits:
        plan = largest_plan(net.graph, limit, training=training)
        box = box_of(plan)
        assert not any(size % step for size, step in zip(box.shape, plan.step, strict=True))
        assert box.begin == box_of(smallest_plan(net.graph)).begin
        assert predict_cost(net, plan, training=training).peak <= limit
        worth.append(per_work(net, plan))
        for axis in range(net.dims):
            larger = grown(net, plan, tuple(int(a == axis) for a in range(net.dims)))
            fits = predict_cost(net, larger, training=training).peak <= limit
            assert not fits or per_work(net, larger) <= worth[-1]
    assert worth == sorted(worth)


def per_work(net: LeibNet, plan: Plan) -> float:
    return math.prod(box_of(plan).shape) / predict_cost(net, plan).total_macs


def test_no_shape_that_fits_is_much_better():
    net = build_unet((8, 8), base_nc=4, kernel_sizes=[(3, 5), (1, 3)], downsample_factors=[(2, 2)])
    limit = 4 * MIB
    best = largest_plan(net.graph, limit)
    start = smallest_plan(net.graph)
    tried = []
    for steps in itertools.product(range(0, 64, 16), repeat=2):
        plan = grown(net, start, steps)
        if predict_cost(net, plan).peak <= limit:
            tried.append(per_work(net, plan))
    assert len(tried) > 5
    assert per_work(net, best) >= max(tried)


def test_it_is_made_for_the_batch_and_the_type_asked_for():
    net = build_unet((8, 8), **FLAT)
    limit = 16 * MIB
    one, four = largest_plan(net.graph, limit), largest_plan(net.graph, limit, batch=4)
    exact = largest_plan(net.graph, limit, dtype=torch.float64)
    assert predict_cost(net, four, batch=4).peak <= limit < predict_cost(net, one, batch=4).peak
    assert predict_cost(net, exact, dtype=torch.float64).peak <= limit
    assert per_work(net, exact) < per_work(net, one)


def test_work_that_grows_faster_than_the_box():
    """All voxels attend to each other: a small box is worth more, once its margin is no matter."""
    net = build_unet((8, 8), **FLAT, bottleneck="transformer")
    plan = largest_plan(net.graph, 2 * MIB)
    for steps in ((1, 0), (0, 1), (1, 1)):
        assert per_work(net, grown(net, plan, steps)) <= per_work(net, plan)
    assert predict_cost(net, plan).peak < MIB


def test_without_margins_the_largest_box_is_taken():
    nodes = [Pool(["a"], ["b"], (2, 2)), ConvPass(["b"], ["c"], 1, 1, [(1, 1)]), Upsample(["c"], ["d"], (2, 2))]
    net = LeibNet(nodes, {"a": TensorSpec((1, 1), 1)}, ["d"])
    plan = largest_plan(net.graph, MIB)
    assert predict_cost(net, plan).peak > 0.9 * MIB


def test_not_even_the_smallest_fits():
    net = build_unet((8, 8), base_nc=4)
    needed = predict_cost(net, smallest_plan(net.graph), training=True, batch=3).peak
    with pytest.raises(ValueError) as caught:
        largest_plan(net.graph, needed - 1, training=True, batch=3)
    assert f"(32, 32) world units, needs {needed / MIB:.1f} MiB for a batch of 3 and training" in str(caught.value)
    assert largest_plan(net.graph, needed, training=True, batch=3) == smallest_plan(net.graph)
