"""A network specialized for one plan: the same outputs to the bit, and what torch makes of it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from funlib.geometry import Roi
from torch import Tensor

from scalenet_gp import LeibNet, Plan, build_attentive_scalenet, build_scalenet, build_unet
from scalenet_gp.graph.execution import SpecializedNet
from scalenet_gp.testing import random_inputs, randomize

SMALL: dict[str, Any] = {"base_nc": 2, "downsample_factors": [(2, 2)], "convs_per_level": 1}
SMALL_3D: dict[str, Any] = {**SMALL, "downsample_factors": [(2, 2, 2)]}


def networks() -> dict[str, LeibNet]:
    """U-Nets and ScaleNets, 2D and 3D, with every sort of resampling and normalisation."""
    learned = {"downsample_mode": "strided", "upsample_mode": "transposed"}
    made = {
        "U-Net 2D": build_unet((8, 4), **SMALL, norm_layer="batch", residual=True, **learned),
        "U-Net 3D": build_unet((8, 8, 8), **SMALL_3D, norm_layer="group", **learned),
        "ScaleNet 3D": build_scalenet([{"top_resolution": (r,) * 3, **SMALL_3D} for r in (16, 8)]),
        "attentive": build_attentive_scalenet(
            [
                {"top_resolution": (16, 16), **SMALL, "base_nc": 4, "bottleneck": "transformer", "eca": True},
                {
                    "top_resolution": (8, 8),
                    "base_nc": 2,
                    "downsample_factors": [(2, 2)],
                    "upsample_mode": "linear",
                    "bottleneck_join": "attention",
                },
            ]
        ),
    }
    return {name: randomize(net).to(torch.float32) for name, net in made.items()}


NETWORKS = networks()


def two_scales() -> LeibNet:
    return build_scalenet([{"top_resolution": (r, r), "base_nc": 2, "downsample_factors": [(2, 2)]} for r in (16, 8)])


@pytest.fixture(params=NETWORKS)
def case(request: pytest.FixtureRequest) -> tuple[LeibNet, Plan, tuple[Tensor, ...], dict[str, Tensor]]:
    """A network, a plan, inputs in the plan's order, and what the network makes of them."""
    net = NETWORKS[request.param]
    last = net.output_keys[-1]
    plan = net.plan({last: Roi((-8,) * net.dims, net.voxel_size[last] * 6)})
    inputs = random_inputs(plan, torch.float32, batch=2)
    with torch.no_grad():
        expected = net(inputs, plan)
    return net, plan, tuple(inputs[key] for key in plan.inputs), expected


def agree(made: tuple[Tensor, ...], expected: dict[str, Tensor], tolerance: float = 0) -> bool:
    return len(made) == len(expected) and all(
        output.shape == other.shape and (output - other).abs().max() <= tolerance
        for output, other in zip(made, expected.values(), strict=True)
    )


def test_it_gives_the_same_outputs_to_the_bit(case):
    net, plan, inputs, expected = case
    specialized = net.specialize(plan)
    assert isinstance(specialized, SpecializedNet)
    assert specialized.input_keys == tuple(plan.inputs)
    assert specialized.output_keys == tuple(expected)
    with torch.no_grad():
        assert agree(specialized(*inputs), expected)


def test_it_learns_the_same(case):
    net, plan, inputs, _ = case
    specialized = net.specialize(plan)
    gradients = []
    for run in (lambda: net(dict(zip(plan.inputs, inputs, strict=True)), plan).values(), lambda: specialized(*inputs)):
        net.zero_grad()
        sum(output.square().sum() for output in run()).backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(specialized.parameters())) > 0
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    net.zero_grad()


def test_it_shares_the_weights():
    net = build_unet((8, 8), **SMALL)
    specialized = net.specialize(net.smallest_plan)
    assert {id(p) for p in specialized.parameters()} == {id(p) for p in net.parameters()}
    assert specialized.state_dict().keys() == net.state_dict().keys()


def test_it_holds_only_what_the_plan_needs():
    net = two_scales()
    plan = net.plan({"0_output": Roi((0, 0), (16, 16))})
    assert all(name.startswith("0_") for name in net.specialize(plan).nodes)


def test_a_plan_of_another_network_is_refused():
    with pytest.raises(ValueError, match="the plan is for network"):
        NETWORKS["U-Net 2D"].specialize(two_scales().smallest_plan)


def test_other_than_the_planned_inputs_are_refused():
    net = two_scales()
    plan = net.smallest_plan
    specialized, inputs = net.specialize(plan), random_inputs(plan, torch.float32)
    with pytest.raises(ValueError, match=r"the plan takes 0_input, 1_input, in this order, not 1 tensors"):
        specialized(inputs["0_input"])
    larger = torch.nn.functional.pad(inputs["1_input"], (0, 4, 0, 0))
    with pytest.raises(ValueError, match=r"'1_input' has shape \(1, 1, 20, 24\); the plan takes \(batch, 1, 20, 20\)"):
        specialized(inputs["0_input"], larger)
    with pytest.raises(
        ValueError, match=r"one batch size.*'0_input': 1 of torch.float32.*'1_input': 2 of torch.float32"
    ):
        specialized(inputs["0_input"], inputs["1_input"].expand(2, -1, -1, -1))
    with pytest.raises(ValueError, match=r"one type.*'1_input': 1 of torch.float64"):
        specialized(inputs["0_input"], inputs["1_input"].double())


@pytest.fixture
def quiet() -> Iterator[None]:
    """torch's exporter says in its log that torchvision, of which nothing here makes use, is not installed."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


# onnx and torch handle each other's objects in ways that they themselves deprecate
@pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning")
@pytest.mark.usefixtures("quiet")
def test_torch_exports_it_and_onnx_runs_it(case, tmp_path: Path):
    net, plan, inputs, expected = case
    specialized = net.specialize(plan).eval()
    exported = torch.export.export(specialized, inputs)
    with torch.no_grad():
        assert agree(exported.module()(*inputs), expected)
    onnxruntime = pytest.importorskip("onnxruntime")
    names = {"input_names": list(specialized.input_keys), "output_names": list(specialized.output_keys)}
    # the module, as users give it
    program = torch.onnx.export(specialized, inputs, dynamo=True, verbose=False, **names)
    program.save(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    fed = {key: tensor.numpy() for key, tensor in zip(specialized.input_keys, inputs, strict=True)}
    made = session.run(list(specialized.output_keys), fed)
    assert agree(tuple(map(torch.from_numpy, made)), expected, tolerance=1e-5)


# torch's inductor imports what torch deprecates
@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.script_method` is deprecated:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_torch_compiles_it():
    net = randomize(build_unet((8, 4), **SMALL, residual=True)).to(torch.float32)
    plan = net.smallest_plan
    inputs = random_inputs(plan, torch.float32)
    with torch.no_grad():
        expected = net(inputs, plan)
        compiled = torch.compile(net.specialize(plan), backend="inductor", fullgraph=True)
        assert agree(compiled(*inputs.values()), expected, tolerance=1e-5)
