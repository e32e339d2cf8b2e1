"""ProcessGroup: several processes against one process with all their samples, and what ends them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from funlib.geometry import Roi
from torch import Tensor, nn

from scalenet_gp import LeibNet, Plan, build_scalenet
from scalenet_gp.losses import CrossEntropyDice
from scalenet_gp.training.distributed import ProcessGroup, distributed_context
from scalenet_gp.training.liveness import watchdog

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and processes are those of Linux"),
    pytest.mark.usefixtures("warm_python"),
]

ROOT = Path(__file__).parents[3]
SIZE = 2
SHARES = (1.0, 0.1)
"""The annotated share of each sample: a mean of two samples' losses is not the loss of both."""


def net_of(dtype: torch.dtype, seed: int = 0) -> LeibNet:
    torch.manual_seed(seed)
    unet = {"base_nc": 2, "output_nc": 2, "downsample_factors": [(2, 2)], "norm_layer": None}
    return build_scalenet([{"top_resolution": (16, 16), **unet}, {"top_resolution": (8, 8), **unet}]).to(dtype)


def plan_of(net: LeibNet, *outputs: str) -> Plan:
    return net.plan({name: Roi((0, 0), (64, 64)) for name in outputs})


def samples_of(plan: Plan, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Inputs, targets and masks of all samples."""
    generator = torch.Generator().manual_seed(3)

    def drawn(channels: int, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(SIZE, channels, *shape, generator=generator, dtype=torch.float64)

    tensors = {tensor.name: tensor for tensor in plan.tensors}
    inputs = {name: drawn(t.channels, t.shape).to(dtype) for name, t in plan.input_tensors.items()}
    targets = {n: (drawn(2, tensors[n].shape) > 0.5).to(dtype) for n in plan.outputs}
    shares = torch.tensor(SHARES).view(SIZE, 1, 1, 1)
    masks = {n: (drawn(2, tensors[n].shape) < shares).to(dtype) for n in plan.outputs}
    for mask in masks.values():
        mask[1, 0] = 0  # of one sample, a class is not annotated at all
    return inputs, targets, masks


class Passes(nn.Module):
    """A network's pass with all that several processes are to share."""

    def __init__(self, net: LeibNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: dict[str, Tensor], plan: Plan) -> dict[str, Tensor]:
        return self.net(inputs, plan)


def gradients(ranks: ProcessGroup, dtype: torch.dtype, passes: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    """Gradients of the loss on all samples; this rank computes its share, in passes for some outputs each."""
    net = net_of(dtype, seed=ranks.rank)  # which is rank 0's from now on
    modules = {partial: ranks.wrap_parallel(Passes(net), partial) for partial in {len(names) == 1 for names in passes}}
    mine = slice(None) if ranks.alone else slice(ranks.rank, ranks.rank + 1)
    for names in passes:
        plan = plan_of(net, *names)
        inputs, targets, masks = (
            {name: tensor[mine] for name, tensor in given.items()} for given in samples_of(plan, dtype)
        )
        targets, masks = ranks.gather_all(targets), ranks.gather_all(masks)
        made = ranks.gather_all(modules[len(names) == 1](inputs, plan))
        loss = sum(CrossEntropyDice()(made[name], targets[name], masks[name]) for name in made)
        loss.backward()
    return {"loss": loss.detach(), "gradients": {name: p.grad for name, p in net.named_parameters()}}


BOTH, COARSE = ("0_output", "1_output"), ("0_output",)
CASES: dict[str, tuple[torch.dtype, tuple[tuple[str, ...], ...]]] = {
    "float64": (torch.float64, (BOTH,)),
    "float32": (torch.float32, (BOTH,)),
    "one output": (torch.float64, (COARSE,)),
    "accumulated": (torch.float64, (BOTH, COARSE, BOTH, BOTH, COARSE)),
}


def run_as_rank(folder: Path) -> None:
    """Compute as one rank of two, and write its results to ``folder``: the program of :func:`results`."""
    with distributed_context("cpu") as ranks:
        found: dict[str, Any] = {name: gradients(ranks, *case) for name, case in CASES.items()}
        found["ranks"] = (ranks.rank, ranks.size, ranks.local_rank, ranks.alone, ranks.is_main, str(ranks.device))
        found["anywhere"] = [ranks.any_rank(ranks.rank in those) for those in ([], [1], [0, 1])]
        found["of first"] = ranks.broadcast(0.1 + ranks.rank)
        found["gathered"] = ranks.gather(torch.full((3, 2), float(ranks.rank)).t())
        ranks.check_same("the iteration", 7)
        try:
            ranks.check_same("the iteration", 7 + ranks.rank)
        except ValueError as error:
            found["differing"] = str(error)
        torch.save(found, folder / f"{ranks.rank}.pt")
    assert not dist.is_initialized()


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | more


def torchrun(python: str, script: str, folder: Path) -> subprocess.Popen[str]:
    """Two processes that run ``script`` with a folder as their argument."""
    path = folder / "script.py"
    path.write_text(script)
    launch = [python, "-m", "torch.distributed.run", "--standalone"]
    command = [*launch, "--nproc-per-node", str(SIZE), str(path), str(folder)]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.fixture(scope="module")
def results(warm_executable: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of both ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    process = torchrun(
        warm_executable,
        "import sys, pathlib\nfrom tests.scalenet_gp.training.test_distributed import run_as_rank\n"
        "run_as_rank(pathlib.Path(sys.argv[1]))\n",
        folder,
    )
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "Warning" not in errors, errors
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(SIZE)]


# The same as in one process


@pytest.mark.parametrize("case", CASES)
def test_two_processes_with_a_sample_each_get_the_gradient_of_one_with_both(
    case: str, results: list[dict[str, Any]]
) -> None:
    expected = gradients(ProcessGroup(), *CASES[case])
    exact = CASES[case][0] == torch.float64
    for found in results:
        torch.testing.assert_close(found[case]["loss"], expected["loss"], rtol=1e-12 if exact else 1e-5, atol=0)
        for name, gradient in expected["gradients"].items():
            if gradient is None:
                assert found[case]["gradients"][name] is None
            else:
                largest = float(gradient.abs().max())
                torch.testing.assert_close(
                    found[case]["gradients"][name], gradient, rtol=0, atol=largest * (1e-12 if exact else 2e-5)
                )
    given = [gradient is None for gradient in expected["gradients"].values()]
    assert any(given) == (case == "one output")


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_equal_on_all_ranks_to_the_bit(case: str, results: list[dict[str, Any]]) -> None:
    first, second = (found[case]["gradients"] for found in results)
    for name, gradient in first.items():
        assert gradient is second[name] is None or torch.equal(gradient, second[name])


def test_the_mean_of_the_samples_losses_would_have_another_gradient() -> None:
    net = net_of(torch.float64)
    plan = plan_of(net, *BOTH)
    inputs, targets, masks = samples_of(plan, torch.float64)
    for k in range(SIZE):
        made = net({name: tensor[k : k + 1] for name, tensor in inputs.items()}, plan)
        part = (CrossEntropyDice()(made[n], targets[n][k : k + 1], masks[n][k : k + 1]) for n in made)
        (sum(part) / SIZE).backward()
    expected = gradients(ProcessGroup(), *CASES["float64"])["gradients"]
    parameters = dict(net.named_parameters())
    assert max(float((parameters[n].grad - g).abs().max() / g.abs().max()) for n, g in expected.items()) > 0.1


def test_ranks_agree(results: list[dict[str, Any]]) -> None:
    assert [found["ranks"] for found in results] == [(0, 2, 0, False, True, "cpu"), (1, 2, 1, False, False, "cpu")]
    for found in results:
        assert found["anywhere"] == [False, True, True]
        assert found["of first"] == 0.1
        assert found["gathered"].tolist() == [[0.0] * 3] * 2 + [[1.0] * 3] * 2
        assert found["differing"] == "the iteration differs among the ranks: 7, 8"


def test_alone_everything_is_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    net, tensor = net_of(torch.float32), torch.rand(2, 3)
    with distributed_context("cpu") as ranks:
        assert ranks == ProcessGroup(device=torch.device("cpu"))
        assert ranks.alone
        assert ranks.is_main
        assert ranks.wrap_parallel(net) is ranks.synchronize_norms(net) is net
        assert ranks.gather(tensor) is tensor
        assert [ranks.any_rank(False), ranks.any_rank(True)] == [False, True]
        assert ranks.broadcast(0.3) == 0.3
        ranks.check_same("anything", 1)
        assert not dist.is_initialized()


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    with (
        pytest.raises(ValueError, match="WORLD_SIZE is 2, but RANK, LOCAL_RANK, MASTER_ADDR are"),
        distributed_context("cpu"),
    ):
        pass


def test_batch_normalisation_is_over_all_samples_on_gpus_and_refused_on_the_processor() -> None:
    unet = {"base_nc": 2, "downsample_factors": [(2, 2)], "norm_layer": "batch"}
    net = build_scalenet([{"top_resolution": (8, 8), **unet}])
    with pytest.raises(ValueError, match=r"in_conv_0\S*' normalizes over the batch, .* in 2 processes"):
        ProcessGroup(0, 2).synchronize_norms(net)
    names, fingerprint = list(net.state_dict()), net.fingerprint
    normalising = sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    same = ProcessGroup(0, 2).synchronize_norms(net.to("meta"))
    assert same is net
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in net.modules()) == normalising > 0
    assert list(net.state_dict()) == names
    assert net.fingerprint == fingerprint


# What ends them


def wait_for_files(folder: Path, pattern: str, count: int) -> list[Path]:
    begun = time.monotonic()
    while len(found := sorted(folder.glob(pattern))) < count:
        assert time.monotonic() - begun < 200
        time.sleep(0.1)
    return found


def wait_for_each_other(folder: Path) -> None:
    """Wait for the other process: the program of the next test."""
    with distributed_context("cpu") as ranks:
        ranks.any_rank(False)
        (folder / f"{ranks.rank}.{os.getpid()}.pid").touch()
        while True:
            ranks.any_rank(False)
            time.sleep(0.01)


def test_a_rank_that_is_killed_ends_the_other_within_a_minute(tmp_path: Path) -> None:
    process = torchrun(
        sys.executable,
        "import sys, pathlib\nfrom tests.scalenet_gp.training.test_distributed import wait_for_each_other\n"
        "wait_for_each_other(pathlib.Path(sys.argv[1]))\n",
        tmp_path,
    )
    try:
        pids = [int(path.name.split(".")[1]) for path in wait_for_files(tmp_path, "*.pid", SIZE)]
        os.kill(pids[1], signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        assert process.returncode != 0
        assert "Signal 9 (SIGKILL) received by PID " in errors
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_so_it_does_when_nobody_watches_them(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = "import sys, pathlib\nfrom tests.scalenet_gp.training.test_distributed import wait_for_each_other\n"
    command = [sys.executable, "-c", f"{script}wait_for_each_other(pathlib.Path(sys.argv[1]))", str(tmp_path)]
    processes = []
    try:
        for rank in range(SIZE):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(SIZE)}
            there = environment(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), **place)
            processes.append(subprocess.Popen(command, env=there, stderr=subprocess.PIPE, text=True))
        wait_for_files(tmp_path, "*.pid", SIZE)
        processes[1].kill()
        _, errors = processes[0].communicate(timeout=60)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert processes[0].returncode == 1
    assert "ConnectionError: rank 0 of 2 has lost another one, which was killed or failed" in errors


@pytest.fixture
def store() -> dist.TCPStore:
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))


def watching(store: dist.TCPStore, silence: float) -> subprocess.Popen[str]:
    """Rank 0 of 2, which is busy for a minute with what lets no other thread end it."""
    script = f"import time\nfrom {watchdog.__module__} import *\nwith watchdog(0, 2, {silence}):\n    time.sleep(60)\n"
    more = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    return subprocess.Popen([sys.executable, "-c", script], env=environment(**more), stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_rank_that_is_busy_notices_who_gives_no_sign_of_life_and_no_one_else(store: dist.TCPStore) -> None:
    stopped = threading.Event()

    def live() -> None:
        for beat in range(10000):
            store.set("sign of life/1", str(beat))
            if stopped.wait(0.5):
                return

    other = threading.Thread(target=live)
    other.start()
    process = watching(store, silence=3)
    try:
        while not store.check(["sign of life/0"]):
            time.sleep(0.1)
        time.sleep(4.5)
        assert process.poll() is None
        stopped.set()
        _, errors = process.communicate(timeout=50)
    finally:
        stopped.set()
        process.kill()
        other.join()
    assert process.returncode == 1
    assert errors.startswith("rank 0 of 2 ends: rank 1 has given no sign of life for 3 s; it was killed")


def test_a_rank_ends_without_the_process_at_which_all_have_met() -> None:
    script = (
        "import datetime, time\nimport torch.distributed as dist\n"
        "store = dist.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)\n"
        "print(store.port, flush=True)\ntime.sleep(100)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", script], env=environment(), stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    port = int(host.stdout.readline())
    store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=20))
    process = watching(store, silence=40)
    try:
        while not store.check(["sign of life/0"]):
            time.sleep(0.1)
        host.kill()
        _, errors = process.communicate(timeout=50)
    finally:
        host.kill()
        host.communicate()
        process.kill()
    assert process.returncode == 1
    assert f"rank 0 of 2 ends: the process at 127.0.0.1:{port}, where all have met, has gone" in errors
