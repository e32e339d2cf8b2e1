"""Running out of memory: it is provoked for real, and what the message proposes is then done under the same limit."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from funlib.geometry import Roi

from scalenet_gp import LeibNet, TensorSpec, build_unet
from scalenet_gp.analysis.cost import predict_cost
from scalenet_gp.layers import ConvPass
from scalenet_gp.training import memory
from scalenet_gp.training.memory import (
    check_data_memory,
    check_step_memory,
    explain_memory_errors,
    explain_out_of_memory,
    free_bytes,
    peak_resident_bytes,
    resident_bytes,
)

CPU = torch.device("cpu")
MIB = 2**20
LINUX = sys.platform.startswith("linux")

TRAIN_UNDER_A_LIMIT = """
import re, resource, torch
torch.set_num_threads(1)
from funlib.geometry import Roi
from scalenet_gp import build_unet
from scalenet_gp.training.memory import explain_memory_errors

options = {"convs_per_level": 1, "output_nc": 2, "norm_layer": None}
net = build_unet(top_resolution=(8, 8), base_nc=8, downsample_factors=[(2, 2)], **options)
optimizer = torch.optim.Adam(net.parameters())

def step(shape):
    plan = net.plan({net.output_keys[-1]: Roi((0, 0), [8 * size for size in shape])})
    with explain_memory_errors(net, plan, 2, torch.float32, torch.device("cpu")):
        learn(plan)

def learn(plan):
    inputs = {t.name: torch.rand(2, t.channels, *t.shape) for t in plan.input_tensors.values()}
    sum(output.square().mean() for output in net(inputs, plan).values()).backward()
    optimizer.step()
    optimizer.zero_grad()

step((64, 64))
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 400 * 2**20,) * 2)
try:
    step((1300, 1300))
except MemoryError as error:
    print(error)
    step(map(int, re.search(r"What would fit: '\\S+' of (\\d+) × (\\d+) voxels", str(error)).groups()))
    print("trained what would fit")
"""


def single_conv():
    """A network of two tensors: ``a`` is a voxel larger than ``b`` on every side, and ``b`` has 4 channels."""
    return LeibNet([ConvPass(["a"], ["b"], 1, 4, [(3, 3, 3)])], {"a": TensorSpec((4, 5, 6), 1)}, ["b"])


def flat_conv():
    """The same in 2D, of which the largest plan is found in half the time."""
    return LeibNet([ConvPass(["a"], ["b"], 1, 4, [(3, 3)])], {"a": TensorSpec((4, 5), 1)}, ["b"])


def over(net, voxels):
    return net.plan({key: Roi((0,) * net.dims, net.voxel_size[key] * voxels) for key in net.output_keys})


def explained(voxels=30, **changes):
    arguments = {"net": single_conv(), "batch": 2, "dtype": torch.float32, "device": CPU} | changes
    return explain_out_of_memory(plan=over(arguments["net"], voxels), **arguments)


@pytest.mark.skipif(not LINUX, reason="only Linux keeps to RLIMIT_AS")
def test_a_plan_that_is_too_large_is_refused_and_the_one_proposed_trains(warm_executable):
    done = subprocess.run(
        [warm_executable, "-c", TRAIN_UNDER_A_LIMIT],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    message, last = done.stdout.strip().split("\n")
    assert last == "trained what would fit"
    assert "working out what would fit" in done.stderr
    assert "'output' of 1300 × 1300 voxels (10400 × 10400 nm), in batches of 2" in message
    # after the first convolution there are 4 voxels more on either side than of the output: 8 channels of float32
    assert f"'in_conv_0' 2 × 8 × 1308 × 1308 ({2 * 8 * 1308**2 * 4 / MIB:.0f} MiB)" in message
    there = int(re.search(r"there are (\d+) MiB", message)[1])
    assert 350 <= there < 500, "the limit, and what the C library keeps of the step before"
    assert "can't allocate memory: you tried to allocate" in message


def test_the_message_says_what_is_needed_and_names_the_largest_tensors(monkeypatch):
    net = single_conv()
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100 * MIB)
    message = explained(net=net)
    need = predict_cost(net.graph, over(net, 30), batch=2, training=True).peak
    assert (
        f"'b' of 30 × 30 × 30 voxels (120 × 150 × 180 nm), in batches of 2, needs about {need / MIB:.0f} MiB" in message
    )
    assert "there are 100 MiB" in message
    assert "Its largest tensors: 'b' 2 × 4 × 30 × 30 × 30 (1 MiB), 'a' 2 × 1 × 32 × 32 × 32 (0 MiB)." in message
    assert message.endswith(
        "Less is needed with a smaller batch or precision='bfloat16' or activation_checkpointing=('*',)"
    )


def test_what_fits_takes_less_than_half_of_what_there_is_and_of_what_was_too_much(monkeypatch):
    net = single_conv()
    need = predict_cost(net.graph, over(net, 30), batch=2, training=True).peak
    for there in (need // 3, 50 * need):
        monkeypatch.setattr(memory, "free_bytes", lambda device, there=there: there)
        found = re.search(r"What would fit: 'b' of (\d+) × (\d+) × (\d+) voxels \(([^)]*) nm\)", explained(net=net))
        voxels = [int(size) for size in found.groups()[:3]]
        assert found[4] == " × ".join(str(n * size) for n, size in zip(voxels, (4, 5, 6), strict=True))
        plan = net.plan({"b": Roi((0, 0, 0), [n * size for n, size in zip(voxels, (4, 5, 6), strict=True)])})
        fitting = predict_cost(net.graph, plan, batch=2, training=True).peak
        assert fitting <= min(need, there + 2000) / 2
        assert fitting > min(need, there) / 3, "not far less than would fit"


def test_where_nothing_fits_it_says_so(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100)
    assert "No plan would fit: the smallest plan, with outputs of (4, 5, 6) world units" in explained()


def test_only_what_is_not_done_yet_is_proposed(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100 * MIB)
    done = {"net": flat_conv(), "batch": 1, "dtype": torch.bfloat16}
    message = explained(5, **done)
    assert message.endswith(". Less is needed with activation_checkpointing=('*',)")
    rest = explained(5, **done, activation_checkpointing={"b"})
    assert "What would fit" in message
    assert "What would fit" in rest
    assert "Less is needed" not in rest


def test_what_is_computed_again_is_not_needed(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100 * MIB)
    monkeypatch.setattr(memory, "_what_fits", lambda *_: "")
    net = build_unet((8, 8), base_nc=4, downsample_factors=[(2, 2)], norm_layer=None, convs_per_level=1)
    plan, needs = over(net, 400), []
    for activation_checkpointing in ((), net.nodes):
        message = explain_out_of_memory(net, plan, 1, torch.float32, CPU, activation_checkpointing)
        needs.append(
            predict_cost(net.graph, plan, training=True, activation_checkpointing=activation_checkpointing).peak
        )
        assert f"needs about {needs[-1] / MIB:.0f} MiB" in message
    assert needs[1] < needs[0]


@pytest.mark.parametrize(
    "allocate",
    [
        pytest.param(lambda: torch.empty(2**56, dtype=torch.uint8), id="torch"),
        pytest.param(lambda: np.empty(2**56, dtype=np.uint8), id="numpy"),
        pytest.param(lambda: bytearray(2**56), id="python"),
    ],
)
def test_no_memory_is_one_error_wherever_it_comes_from(allocate, monkeypatch):
    monkeypatch.setattr(memory, "explain_out_of_memory", lambda *_: "what to do")
    net = single_conv()
    with (
        pytest.raises(MemoryError, match=r"^what to do \(.+\)$"),
        explain_memory_errors(net, over(net, 4), 1, torch.float32, CPU),
    ):
        allocate()


def test_other_errors_stay_as_they_are():
    net = single_conv()
    with (
        pytest.raises(RuntimeError, match="shapes cannot be"),
        explain_memory_errors(net, over(net, 4), 1, torch.float32, CPU),
    ):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_without_memory_for_an_explanation_there_is_a_message_still(monkeypatch):
    def fails(*_, **__):
        raise MemoryError

    monkeypatch.setattr(memory, "predict_cost", fails)
    net = single_conv()
    with (
        pytest.raises(MemoryError, match=r"out of memory on cpu: 'b' of 4 × 4 × 4 voxels \(16 × 20 × 24 nm\)"),
        explain_memory_errors(net, over(net, 4), 1, torch.float32, CPU),
    ):
        raise MemoryError


def test_what_was_called_within_lets_go_of_its_tensors(monkeypatch):
    kept = []

    class Held:
        def __del__(self):
            kept.append("let go")

    def fails():
        _held = Held()
        raise MemoryError("no more")

    monkeypatch.setattr(memory, "explain_out_of_memory", lambda *_: f"{kept}")
    net = single_conv()
    with pytest.raises(MemoryError, match="let go"), explain_memory_errors(net, over(net, 4), 1, torch.float32, CPU):
        fails()


def test_resident_memory_grows_by_what_is_touched():
    before = resident_bytes()
    held = np.ones(64 * MIB, dtype=np.uint8)
    assert resident_bytes() - before == pytest.approx(held.nbytes, abs=8 * MIB)
    assert peak_resident_bytes() >= before + held.nbytes - 8 * MIB


@pytest.mark.skipif(not LINUX, reason="only Linux has /proc/meminfo")
def test_free_memory_is_what_the_system_has_at_most(monkeypatch):
    found = re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())
    assert 0 < free_bytes(CPU) <= int(found[1]) * 1024
    monkeypatch.setattr(memory, "_left_in_control_group", lambda: 5 * MIB)
    monkeypatch.setattr(memory, "_kept_by_c_library", lambda: 3 * MIB)
    assert free_bytes(CPU) == 8 * MIB


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        ("0::/job/step", {"job/step": ("max", 10, 0), "job": (100, 70, 20)}, 50),
        ("0::/job/step", {"job/step": (40, 10, 5), "job": (100, 70, 20)}, 35),
        ("0::/made/outside", {"": (64, 32, 0)}, 32),
        ("0::/", {"": ("max", 32, 0)}, math.inf),
        ("5:cpu:/job\n4:memory:/job", {"job": (100, 70, 20)}, 50),
        ("5:cpu:/job", {"job": (100, 70, 20)}, math.inf),
    ],
)
def test_control_groups_of_either_version(tmp_path, groups, files, left):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
    second = groups.startswith("0::")
    names = ("memory.max", "memory.current") if second else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for path, (limit, used, droppable) in files.items():
        folder = tmp_path / "sys/fs/cgroup" / ("" if second else "memory") / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{used}\n")
        stat = "inactive_file" if second else "total_inactive_file"
        (folder / "memory.stat").write_text(f"anon 7\n{stat} {droppable}\n")
    assert memory._left_in_control_group(tmp_path) == left


def test_no_control_groups_set_no_limit(tmp_path):
    assert memory._left_in_control_group(tmp_path) == math.inf


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_without_memory():
    device, net = torch.device("cuda"), single_conv().cuda()
    free = free_bytes(device)
    held = torch.empty(free - 2**30, dtype=torch.uint8, device=device)
    assert free_bytes(device) == pytest.approx(2**30, rel=0.1)
    plan = over(net, 700)
    with (
        pytest.raises(MemoryError, match=r"out of memory on cuda.*What would fit"),
        explain_memory_errors(net, plan, 1, torch.float32, device),
    ):
        net({"a": torch.empty(1, 1, 702, 702, 702, device=device)}, plan)
    del held


def test_a_step_is_refused_before_it_takes_memory(monkeypatch):
    net = flat_conv()
    plan = over(net, 30)
    need = predict_cost(net.graph, plan, batch=2, training=True).peak
    for there in (100 * need, need):
        monkeypatch.setattr(memory, "free_bytes", lambda device, there=there: there)
        check_step_memory(net, plan, 2, torch.float32, CPU)
    monkeypatch.setattr(memory, "free_bytes", lambda device: need - 1)
    with pytest.raises(MemoryError, match=r"in batches of 2, needs about [\d,]+ MiB and more.*What would fit"):
        check_step_memory(net, plan, 2, torch.float32, CPU)


def test_a_step_that_is_not_predicted_in_full_takes_less():
    net = build_unet(top_resolution=(8, 8), base_nc=8, downsample_factors=[(2, 2)], norm_layer=None)
    for size in (8, 200):
        plan = over(net, size)
        tensors = sum(tensor.numbytes() for tensor in plan.tensors)
        assert predict_cost(net.graph, plan, training=True).activations < memory._MOST_TIMES * tensors


def test_data_are_refused_before_they_take_memory(monkeypatch):
    net = build_unet(top_resolution=(8, 8), base_nc=8, downsample_factors=[(2, 2)], norm_layer=None)
    plan = over(net, 1000)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100 * MIB)
    check_data_memory(net, plan, 1)
    with pytest.raises(MemoryError, match=r"4 samples of 'input' .* voxels .*100 MiB are free.*nanometres, not voxels"):
        check_data_memory(net, plan, 4)
