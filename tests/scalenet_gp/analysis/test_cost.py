"""The predicted cost of a plan, against counting by hand and measuring."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from funlib.geometry import Coordinate, Roi

from scalenet_gp import LeibNet, Node, Plan, TensorSpec, build_scalenet, build_unet
from scalenet_gp.analysis import predict_cost
from scalenet_gp.analysis.cost import CostPredictor
from scalenet_gp.inference import OneDnnConvolutions, SlabbedInference
from scalenet_gp.inference.slab_thickness import predict_slabbed_memory
from scalenet_gp.layers import Concatenate, ConvPass, Pool, StridedConv, TransformerBlock, TransposedConv, Upsample


def over_origin(net: LeibNet, voxels: int) -> dict[str, Roi]:
    return {key: Roi((0,) * net.dims, net.voxel_size[key] * voxels) for key in net.output_keys}


def test_multiply_accumulates_by_hand():
    nodes: list[Node] = [
        ConvPass(["a"], ["b"], 3, 5, [(3, 3), (1, 3)], residual=True),
        Pool(["b"], ["c"], (2, 2)),
        StridedConv(["b"], ["d"], 5, 7, (2, 2)),
        Concatenate(["c", "d"], ["e"]),
        TransposedConv(["e"], ["f"], 12, 4, (2, 2)),
        Upsample(["e"], ["g"], (2, 2)),
        Concatenate(["f", "g"], ["h"]),
        ConvPass(["h"], ["i"], 16, 2, [(3, 3)]),
    ]
    net = LeibNet(nodes, {"a": TensorSpec((4, 4), 3)}, ["i"])
    plan = net.plan({"i": Roi((4, 4), (24, 40))})  # 6 x 10 voxels, 8 x 12 before the last convolution
    assert plan.tensor("b").shape == (8, 12)
    groups = 1  # of the residual projection from 3 to 5 channels
    assert predict_cost(net.graph, plan, batch=2).macs == {
        "b": 2 * ((8 * 14) * 3 * 5 * 9 + (8 * 12) * 5 * 5 * 3 + (8 * 12) * 3 * 5 // groups),
        "c": 0,
        "d": 2 * (4 * 6) * 5 * 7 * 4,
        "e": 0,
        "f": 2 * (4 * 6) * 12 * 4 * 4,
        "i": 2 * ((6 * 10) * 4 * 2 * 9 + (3 * 5) * 12 * (4 * 2) * 4),  # "e" is convolved by 2² kernels before it is "g"
    }


@pytest.mark.parametrize("training", [False, True])
def test_those_of_attention(training):
    net = LeibNet([TransformerBlock(["a"], ["b"], 12, mlp_ratio=3)], {"a": TensorSpec((1, 1, 1), 12)}, ["b"])
    plan = net.plan({"b": Roi((0, 0, 0), (3, 4, 5))})
    tokens, channels = 60, 12
    projections, layers = 4 * tokens * channels**2, 2 * tokens * channels * 36
    attention = 2 * tokens**2 * channels
    assert predict_cost(net.graph, plan, training=training).macs == {"b": projections + layers + attention}


def test_those_of_the_backward_pass():
    """A convolution's gradient with respect to its weights, and that to its input, are as much work as itself."""
    nodes = [ConvPass(["a"], ["b"], 2, 3, [(3, 3)]), ConvPass(["b"], ["c"], 3, 4, [(3, 3)])]
    net = LeibNet(nodes, {"a": TensorSpec((1, 1), 2)}, ["c"])
    plan = net.plan(over_origin(net, 5))
    cost = predict_cost(net.graph, plan, training=True)
    assert cost.macs == predict_cost(net.graph, plan).macs == {"b": 49 * 2 * 3 * 9, "c": 25 * 3 * 4 * 9}
    assert cost.backward_macs == cost.macs["b"] + 2 * cost.macs["c"]
    assert cost.total_macs == 2 * cost.macs["b"] + 3 * cost.macs["c"]
    assert predict_cost(net.graph, plan).backward_macs == 0


def test_memory_by_hand():
    """A pass that keeps nothing holds the input, and the tensors that one node reads and makes."""
    net = LeibNet(
        [Upsample(["a"], ["b"], (2, 2)), Upsample(["b"], ["c"], (2, 2)), Pool(["c"], ["d"], (4, 4), "mean")],
        {"a": TensorSpec((4, 4), 3)},
        ["d"],
    )
    plan = net.plan({"d": Roi((0, 0), (400, 800))})
    voxels = 100 * 200 * 3
    cost = predict_cost(net.graph, plan, batch=2)
    assert cost.peak == cost.activations == 2 * 4 * (voxels + 4 * voxels + 16 * voxels)
    assert (cost.weights, cost.gradients) == (0, 0)
    assert predict_cost(net.graph, plan, batch=2, dtype=torch.bfloat16).peak == cost.peak / 2


def test_weights_and_gradients_by_hand():
    net = build_unet((8, 8), base_nc=4, norm_layer="batch")
    weights = sum(p.numel() for p in net.parameters())
    statistics = {id(b): b.numel() * b.element_size() for b in net.buffers()}
    plan = net.plan(over_origin(net, 4))
    inference, training = predict_cost(net.graph, plan), predict_cost(net.graph, plan, training=True)
    assert inference.weights == training.weights == 4 * weights + sum(statistics.values())
    assert inference.gradients == 0
    assert training.gradients == 4 * weights
    assert inference.activations == inference.peak - inference.weights
    halved = predict_cost(net.graph, plan, dtype=torch.bfloat16).weights
    counters = sum(b.numel() * b.element_size() for b in net.buffers() if not b.is_floating_point())
    assert halved - counters == (inference.weights - counters) / 2


def test_training_in_bfloat16_keeps_its_weights_in_float32():
    net = build_unet((8, 8), base_nc=4)
    plan = net.plan(over_origin(net, 64))
    full, mixed = (
        predict_cost(net.graph, plan, training=True, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    assert (mixed.weights, mixed.gradients, mixed.macs) == (full.weights, full.gradients, full.macs)


def test_the_network_is_left_as_it_is():
    net = build_unet((8, 8), base_nc=4, norm_layer="batch", dropout_prob=0.5)
    net.nodes["bottleneck"].eval()
    plan = net.plan(over_origin(net, 4))
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    modes = {name: module.training for name, module in net.named_modules()}
    random = torch.get_rng_state()
    for training in (False, True):
        predict_cost(net.graph, plan, training=training)
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert all(p.grad is None and type(p) is torch.nn.Parameter and p.requires_grad for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_weights_that_do_not_learn_have_no_gradients():
    net = build_unet((8, 8), base_nc=4, norm_layer=None)
    plan = net.plan(over_origin(net, 4))
    learning = net.nodes["output"]
    net.requires_grad_(False)
    frozen = predict_cost(net.graph, plan, training=True)
    assert (frozen.gradients, frozen.backward_macs) == (0, 0)
    learning.requires_grad_(True)
    some = predict_cost(net.graph, plan, training=True)
    assert some.gradients == 4 * sum(p.numel() for p in learning.parameters())
    assert some.backward_macs == some.macs["output"]


@pytest.mark.parametrize(
    "options",
    [{}, {"training": True}, {"training": True, "dtype": torch.bfloat16, "activation_checkpointing": {"output"}}],
    ids=["inference", "training", "checkpoints"],
)
def test_one_copy_serves_many_plans(options):
    net = build_unet((8, 8), base_nc=2, norm_layer="batch", downsample_factors=[(2, 2)], convs_per_level=1)
    predictor = CostPredictor(net.graph, batch=2, **options)
    for voxels in (8, 4):
        plan = net.plan(over_origin(net, voxels))
        assert predictor.predict(plan) == predict_cost(net.graph, plan, batch=2, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch": 0}, "at least one sample, not 0"), ({"dtype": torch.int32}, "not in torch.int32")],
)
def test_what_cannot_be_predicted(options, message):
    net = build_unet((8, 8), base_nc=1)
    with pytest.raises(ValueError, match=message):
        predict_cost(net.graph, net.smallest_plan, **options)


def test_a_plan_of_another_network():
    with pytest.raises(ValueError, match="the plan is for network"):
        predict_cost(build_unet((8, 8), base_nc=1).graph, build_unet((8, 8), base_nc=2).smallest_plan)


def unet() -> tuple[LeibNet, tuple[int, ...]]:
    return build_unet((8, 8, 8), base_nc=8, downsample_factors=[(2, 2, 2)]), (24, 32, 48)


def scalenet() -> tuple[LeibNet, tuple[int, ...]]:
    options: dict[str, Any] = {"base_nc": 6, "norm_layer": None, "downsample_factors": [(2, 2, 2)]}
    return build_scalenet([{"top_resolution": (r,) * 3, **options} for r in (16, 8)]), (24, 32, 48)


def gated_and_normalised() -> tuple[LeibNet, tuple[int, ...]]:
    options: dict[str, Any] = {"attention_gates": True, "norm_layer": "batch", "residual": True}
    return build_unet((8, 8), base_nc=8, downsample_mode="strided", upsample_mode="transposed", **options), (320, 384)


CASES = {case.__name__: case for case in (unet, scalenet, gated_and_normalised)}


def risen(run: Callable[[], object]) -> int:
    """The rise of this process's memory in bytes."""

    def status(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))

    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    run()
    return status("VmHWM") - before


def measured_and_predicted(case: str) -> list[tuple[int, int]]:
    """Bytes beyond the weights, for inference, for training, and for training with all nodes computed again.

    How far this process's memory rises, and should.
    """
    torch.set_num_threads(1)
    net, shape = CASES[case]()
    last = net.output_keys[-1]
    warming_up, plan = (
        net.plan({last: Roi((0,) * net.dims, net.voxel_size[last] * Coordinate(voxels))})
        for voxels in ((4,) * net.dims, shape)
    )

    def run(plan: Plan, training: bool, activation_checkpointing: Collection[str]) -> None:
        inputs = {key: torch.rand((1, t.channels, *t.shape)) for key, t in plan.input_tensors.items()}
        with torch.set_grad_enabled(training):
            outputs = net(inputs, plan, activation_checkpointing)
        if training:
            sum(output.sum() for output in outputs.values()).backward()
            net.zero_grad()

    found = []
    for training, activation_checkpointing in ((False, ()), (True, ()), (True, net.nodes)):
        net.train(training)
        run(
            warming_up, training, activation_checkpointing
        )  # what is loaded and compiled at the first call is no matter of the plan
        measured = risen(
            lambda training=training, activation_checkpointing=activation_checkpointing: run(
                plan, training, activation_checkpointing
            )
        )
        cost = predict_cost(net.graph, plan, training=training, activation_checkpointing=activation_checkpointing)
        found.append((measured, cost.peak - cost.weights))
    return found


def measured_and_predicted_of_a_sweep() -> tuple[int, int]:
    """The same of a sweep in slabs so thin that torch would convolve most of its tensors itself."""
    torch.set_num_threads(1)
    net = build_unet((8, 8, 8), base_nc=12, downsample_factors=[(2, 2, 2)]).eval()
    outputs = {"output": Roi((0, 0, 0), (16 * 8, 100 * 8, 260 * 8))}
    sweep = SlabbedInference.of(net, outputs, 2 * 8)
    first = SlabbedInference.of(net, {"output": Roi((0, 0, 0), (64, 64, 64))}, 2 * 8)
    with torch.inference_mode(), OneDnnConvolutions():
        for warming_up in (first, sweep):
            inputs = {key: torch.rand((1, t.channels, *t.shape)) for key, t in warming_up.plan.input_tensors.items()}
            measured = risen(lambda swept=warming_up, inputs=inputs: swept.run(net, inputs))
    weights = sum(4 * parameter.numel() for parameter in net.parameters())
    return measured, predict_slabbed_memory(net, sweep) - weights


def in_a_process(python: str, expression: str) -> Any:
    """The value of an expression with the names of this file, in a process of its own, started with ``python``."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    # Freed memory goes back at once: else glibc keeps blocks of up to 32 MiB, more or less by what came before.
    settings = "from scalenet_gp.kernels.device import return_freed_memory; return_freed_memory()"
    call = f"{settings}; import json; from {__name__} import *; print(json.dumps({expression}))"
    done = subprocess.run([python, "-c", call], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def measurements(warm_executable):
    """The measurements of all cases and of a sweep, in one process."""
    cases = "{case: measured_and_predicted(case) for case in CASES}"
    return in_a_process(warm_executable, f"{cases} | {{'sweep': measured_and_predicted_of_a_sweep()}}")


MEASURED = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="only Linux tells a process's peak memory"
)


@MEASURED
@pytest.mark.parametrize("case", CASES)
def test_predicted_memory_is_what_is_measured(measurements, case):
    assert len(measurements[case]) == 3
    for measured, predicted in measurements[case]:
        assert measured > 30 * 2**20
        assert math.isclose(predicted, measured, rel_tol=0.15), (predicted / 2**20, measured / 2**20)


@MEASURED
def test_predicted_memory_of_a_sweep_is_what_is_measured(measurements):
    measured, predicted = measurements["sweep"]
    assert measured > 80 * 2**20
    assert math.isclose(predicted, measured, rel_tol=0.15), (predicted / 2**20, measured / 2**20)
