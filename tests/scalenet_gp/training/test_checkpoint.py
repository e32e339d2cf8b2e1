"""Checkpoints: what comes back is what was written, and what fails leaves what was there before."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import logging
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

import scalenet_gp.training.checkpoint
from scalenet_gp import LeibNet, build_scalenet, build_unet
from scalenet_gp.serialization import CHECKSUMS
from scalenet_gp.training import CheckpointOptions, ComputeConfig, Optimization, OptimizerOptions, TrainingState
from scalenet_gp.training.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    load_network,
    save_checkpoint,
    thin_checkpoints,
)
from tests.small_disk import small_disks_can_be_mounted

SMALL: dict[str, Any] = {"base_nc": 2, "downsample_factors": [(2, 2)], "norm_layer": None}
ADAM = partial(torch.optim.Adam, lr=1e-2)


def small_net(seed: int = 0, **arguments: Any) -> LeibNet:
    torch.manual_seed(seed)
    return build_unet((8, 8), **{**SMALL, **arguments})


def solid_net(seed: int = 0) -> LeibNet:
    """A network whose weights lie in memory as torch's channels_last_3d has them."""
    torch.manual_seed(seed)
    return build_unet(
        (8, 8, 8), base_nc=3, downsample_factors=[(2, 2, 2)], norm_layer="batch", dropout_prob=0.2, residual=True
    )


def training(net: LeibNet, **optimization: Any) -> TrainingState:
    return TrainingState(net, Optimization(**{"optimizer": ADAM} | optimization), ComputeConfig(device="cpu"), seed=3)


def stepped(state: TrainingState, steps: int = 2) -> TrainingState:
    """Training that has gone on for some steps, each on a batch of its own."""
    plan = state.net.smallest_plan
    for _ in range(steps):
        generator = torch.Generator().manual_seed(state.iteration)
        state.begin()
        inputs = {
            key: torch.rand(2, t.channels, *t.shape, generator=generator) for key, t in plan.input_tensors.items()
        }
        loss = sum((output - 0.3).square().mean() for output in state.forward(inputs, plan).values())
        assert isinstance(loss, Tensor)
        state.advance(loss)
        state.update_plateau(loss.item())
    return state


def saved(directory: Path, state: TrainingState, **arguments: Any) -> Path:
    return save_checkpoint(directory, state.net, state.state_dict(), **arguments)


def same(one: Any, other: Any) -> bool:
    """Equality to the bit, through tensors, with their places in memory."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.stride() == other.stride() and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# ----------------------------------------------------------------------------------------------------- what comes back

OPTIMIZATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "average and schedule": {
        "optimizer": OptimizerOptions(),
        "ema_decay": 0.9,
        "warm_up": 2,
        "schedule": partial(CosineAnnealingLR, T_max=9),
    },
    "within a step": {"accumulate": 2, "clip_norm": 0.01, "optimizer": partial(torch.optim.SGD, lr=1, momentum=0.9)},
    "plateau and frozen": {"frozen": ("nodes.in_conv_0.*",), "schedule": partial(ReduceLROnPlateau, patience=0)},
}


@pytest.mark.parametrize("optimization", OPTIMIZATIONS.values(), ids=OPTIMIZATIONS)
def test_training_goes_on_from_it_to_the_bit(tmp_path: Path, optimization: dict[str, Any]) -> None:
    whole = stepped(training(solid_net(), **optimization), 8)
    path = saved(tmp_path, stepped(training(solid_net(), **optimization), 5))
    later = training(solid_net(seed=1), **optimization)
    load_checkpoint(path).restore(later.net, path, later)
    assert later.iteration == 5
    stepped(later, 3)
    assert same(dict(whole.net.state_dict()), dict(later.net.state_dict()))
    assert same(whole.state_dict(), later.state_dict())


@pytest.mark.parametrize("optimization", OPTIMIZATIONS.values(), ids=OPTIMIZATIONS)
def test_what_comes_back_is_what_was_written(tmp_path: Path, optimization: dict[str, Any]) -> None:
    state = stepped(training(solid_net(), **optimization), 3)
    metadata = {"classes": ["mito", "er"], "iteration": "any name goes", "nested": {"lr": 1e-3, "none": None}}
    path = saved(tmp_path / "new" / "folder", state, metadata=metadata, versions={"gunpowder": "1.4.4"})
    assert path == tmp_path / "new" / "folder" / "checkpoint_3.safetensors"
    assert list(files(path.parent)) == [path.name]
    checkpoint = load_checkpoint(path)
    assert checkpoint.iteration == 3
    assert checkpoint.metadata == metadata
    assert checkpoint.spec == state.net.to_spec()
    weights = state.net.state_dict()
    assert checkpoint.weights.keys() == weights.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in checkpoint.weights.items())
    expected = state.state_dict()
    averages = [part.pop("average") or {} for part in (expected, dict(checkpoint.state))]
    assert same(expected, {name: value for name, value in checkpoint.state.items() if name != "average"})
    assert averages[0].keys() == averages[1].keys()
    assert all(torch.equal(averages[0][name], tensor) for name, tensor in averages[1].items())
    assert (checkpoint.average is None) == (state.average is None)
    assert checkpoint.versions["torch"] == version("torch")
    assert checkpoint.versions["python"] == sys.version.split()[0]
    assert checkpoint.versions["gunpowder"] == "1.4.4"
    assert {"numpy", "safetensors", "scalenet_gp"} < checkpoint.versions.keys()


def test_any_reader_of_safetensors_reads_it(tmp_path: Path) -> None:
    state = stepped(training(small_net(norm_layer="batch"), ema_decay=0.9))
    path = saved(tmp_path, state, metadata={"seed": 7})
    tensors = load_file(path)
    weights = state.net.state_dict()
    assert all(torch.equal(tensors[f"weights/{name}"], tensor) for name, tensor in weights.items())
    average = state.eval_net.state_dict()
    assert all(torch.equal(tensors[f"average/{name}"], tensor) for name, tensor in average.items())
    momentum = state.optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(tensors["state/optimizer/state/0/exp_avg"], momentum)
    assert {name.split("/")[0] for name in tensors} == {"weights", "average", "state"}
    length = int.from_bytes(path.read_bytes()[:8], "little")
    entries = json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]
    assert json.loads(entries["scalenet_gp.spec"]) == state.net.to_spec()
    content = json.loads(entries["scalenet_gp.checkpoint"])
    assert (content["iteration"], content["metadata"], content["state"]["seed"]) == (2, {"seed": 7}, 3)


def test_what_was_loaded_no_longer_depends_on_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path, stepped(training(small_net())))
    checkpoint, again = load_checkpoint(path), load_checkpoint(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert same(dict(checkpoint.weights), dict(again.weights))
    assert all(weight.any() for name, weight in checkpoint.weights.items() if name.endswith("0.weight"))


@pytest.mark.parametrize("decay", [None, 0.5])
def test_a_network_is_built_from_its_checkpoint_alone(tmp_path: Path, decay: float | None) -> None:
    """The network has the averaged weights, if there are any: validation uses them."""
    subnets = [{"top_resolution": (16, 16), **SMALL}, {"top_resolution": (8, 8), **SMALL, "norm_layer": "batch"}]
    state = stepped(training(build_scalenet(subnets), ema_decay=decay))
    path = saved(tmp_path, state)
    again, given_weights = load_network(path), build_scalenet(subnets)
    load_checkpoint(path).restore(given_weights, path)
    assert again.fingerprint == state.net.fingerprint
    assert not again.training
    expected = dict(state.eval_net.state_dict())
    assert same(expected, dict(again.state_dict()))
    assert same(expected, dict(given_weights.state_dict()))
    assert same(expected, dict(state.net.state_dict())) == (decay is None)


def test_of_the_state_as_much_is_kept_as_is_given(tmp_path: Path) -> None:
    net = small_net()
    path = save_checkpoint(tmp_path, net, {"iteration": 12})
    assert load_checkpoint(path).state == {"iteration": 12}
    assert load_checkpoint(path).average is None
    assert same(dict(net.state_dict()), dict(load_network(path).state_dict()))


# ------------------------------------------------------------------------------------------------ which one is found


def test_the_newest_is_the_one_of_the_highest_iteration(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "absent") is None
    net = small_net()
    for iteration in (9, 10):
        save_checkpoint(tmp_path, net, {"iteration": iteration})
    whole = (tmp_path / "checkpoint_9.safetensors").read_bytes()
    for name in ("checkpoint_11.partial", "checkpoint_x.safetensors", "checkpoint_99.safetensors~", "99.safetensors"):
        (tmp_path / name).write_bytes(whole)
    (tmp_path / "checkpoint_12.safetensors").mkdir()
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint_10.safetensors"


def cuts(whole: bytes) -> dict[str, bytes]:
    """A file cut short at every kind of place, and what else may have become of it."""
    header = 8 + int.from_bytes(whole[:8], "little")
    lengths = {
        **{"empty": 0, "within the length": 5, "after the length": 8, "within the header": header // 2},
        **{"before the header's end": header - 1, "after the header": header, "within the data": header + 9},
        **{"half": (header + len(whole)) // 2, "the last byte": len(whole) - 1},
    }
    middle = (header + len(whole)) // 2
    flipped = whole[:middle] + bytes(byte ^ 1 for byte in whole[middle : middle + 1]) + whole[middle + 1 :]
    return {
        **{name: whole[:length] for name, length in lengths.items()},
        **{"garbage": random.Random(0).randbytes(3000), "zeros": bytes(len(whole)), "a byte too many": whole + b"0"},
        "a flipped bit": flipped,
    }


@pytest.mark.parametrize("kind", cuts(bytes(8)))
def test_the_newest_whole_one_is_found_if_later_ones_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    net = small_net()
    whole = save_checkpoint(tmp_path, net, {"iteration": 7})
    content = cuts(whole.read_bytes())[kind]
    for iteration in (8, 100):
        (tmp_path / f"checkpoint_{iteration}.safetensors").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert latest_checkpoint(tmp_path) == whole
    assert [re.findall(r"checkpoint_\d+", message)[0] for message in caplog.messages] == [
        "checkpoint_100",
        "checkpoint_8",
    ]
    assert all("may be damaged or cut short" in message for message in caplog.messages)
    for load in (load_checkpoint, load_network):
        if kind == "a flipped bit" and load is load_network:  # which reads the weights alone
            continue
        with pytest.raises(ValueError, match=r"checkpoint_8\.safetensors cannot be read as a "):
            load(tmp_path / "checkpoint_8.safetensors")
    whole.unlink()
    assert latest_checkpoint(tmp_path) is None


def test_what_is_no_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "checkpoint_5.safetensors", {"format": "pt"})
    assert latest_checkpoint(tmp_path) is None
    assert "checkpoint_5.safetensors holds no state of training" in caplog.text
    with pytest.raises(ValueError, match=r"cannot be read as a checkpoint: its metadata have \['format'\]"):
        load_checkpoint(tmp_path / "checkpoint_5.safetensors")


def test_one_of_another_format_is_refused_rather_than_passed_over(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, small_net(), {"iteration": 5})
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    entries = {name: text for name, text in header["__metadata__"].items() if name != CHECKSUMS}
    entries["scalenet_gp.checkpoint"] = entries["scalenet_gp.checkpoint"].replace('"format": 2', '"format": 1')
    save_file(load_file(path), path, entries)  # the first format had no checksums
    assert latest_checkpoint(tmp_path) == path
    for load in (load_checkpoint, load_network):
        with pytest.raises(ValueError, match="is a checkpoint of format 1; this version reads format 2"):
            load(path)


@pytest.fixture(scope="module")
def whole_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    net = small_net()
    return save_checkpoint(
        tmp_path_factory.mktemp("whole"), net, training(net, ema_decay=0.5).state_dict()
    ).read_bytes()


@given(position=st.integers(0, 20_000), value=st.integers(0, 255))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_damaged_header_is_a_value_error_or_does_no_harm(
    tmp_path: Path, whole_content: bytes, position: int, value: int
) -> None:
    damaged = bytearray(whole_content)
    damaged[position % (8 + int.from_bytes(whole_content[:8], "little"))] = value
    path = tmp_path / "checkpoint_1.safetensors"
    path.write_bytes(damaged)
    with contextlib.suppress(ValueError):
        load_checkpoint(path)


@given(
    iterations=st.sets(st.integers(0, 40), max_size=8),
    damaged=st.sets(st.integers(0, 40), max_size=8),
    newest=st.integers(1, 4),
    every=st.none() | st.integers(1, 10),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_old_ones_are_thinned_by_the_rule(
    tmp_path: Path, whole_content: bytes, iterations: set[int], damaged: set[int], newest: int, every: int | None
) -> None:
    shutil.rmtree(tmp_path / "thinned", ignore_errors=True)
    folder = tmp_path / "thinned"
    folder.mkdir()
    (folder / "notes.txt").touch()
    for iteration in iterations:
        content = whole_content[:-1] if iteration in damaged else whole_content
        (folder / f"checkpoint_{iteration}.safetensors").write_bytes(content)
    whole = iterations - damaged
    kept = {i for i in whole if sum(j > i for j in whole) < newest or (every and i % every == 0)}
    thin_checkpoints(folder, CheckpointOptions(keep_newest=newest, keep_every=every))
    expected = kept if len(whole) >= newest else iterations
    assert {path.name for path in folder.glob("*")} == {
        "notes.txt",
        *(f"checkpoint_{iteration}.safetensors" for iteration in expected),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep_newest": 0}, "CheckpointOptions: keep_newest is 0: it has to be greater than 0"),
        ({"keep_every": -2}, "CheckpointOptions: keep_every is -2: it has to be greater than 0"),
        ({"every": 0}, "CheckpointOptions: every is 0: it has to be greater than 0"),
    ],
)
def test_a_rule_that_keeps_nothing_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CheckpointOptions(**arguments)


# ------------------------------------------------------------------------------------------------ writing that fails


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), Interrupted()], ids=["OSError", "signal"])
@pytest.mark.parametrize("iteration", [1, 2], ids=["over an earlier one", "beside an earlier one"])
def test_a_save_that_fails_midway_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, iteration: int
) -> None:
    net = small_net()
    save_checkpoint(tmp_path, net, {"iteration": 1})
    before = files(tmp_path)
    whole = scalenet_gp.training.checkpoint.serialize_tensors

    def half(*arguments: Any) -> tuple[int, Iterator[bytes | memoryview]]:
        length, parts = whole(*arguments)

        def some() -> Iterator[bytes | memoryview]:
            yield from itertools.islice(parts, 6)
            assert [p.name for p in tmp_path.glob("*.partial")] == [f"checkpoint_{iteration}.partial"]
            raise error

        return length, some()

    monkeypatch.setattr(scalenet_gp.training.checkpoint, "serialize_tensors", half)
    with pytest.raises(type(error)):
        save_checkpoint(tmp_path, small_net(1), {"iteration": iteration})
    assert files(tmp_path) == before


FULL = """
import json, resource, shutil, signal, sys
from pathlib import Path
from scalenet_gp import build_unet
from scalenet_gp.training.checkpoint import latest_checkpoint, save_checkpoint
from tests.small_disk import mount_small_disk
folder, kind = Path(sys.argv[1]), sys.argv[2]
if kind == "disk":
    mount_small_disk(str(folder))
net = build_unet((8, 8), base_nc=16, downsample_factors=[(2, 2)], norm_layer=None)
def attempt(iteration):
    try:
        save_checkpoint(folder, net, {"iteration": iteration})
    except OSError as error:
        return error.errno, str(error)
first = attempt(1)
files = {path.name: path.read_bytes() for path in folder.iterdir()}
if kind == "limit":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
else:
    (folder / "other").write_bytes(bytes(shutil.disk_usage(folder).free - 20_000))
second = attempt(2)
(folder / "other").unlink(missing_ok=True)
intact = files == {path.name: path.read_bytes() for path in folder.iterdir()}
size = len(files["checkpoint_1.safetensors"])
total = shutil.disk_usage(folder).total
print(json.dumps([first, second, intact, latest_checkpoint(folder).name, size, total]))
"""


def full_disk(command: list[str]) -> tuple[int, str]:
    """The exit status and the message of a second checkpoint for which there was no room."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, (number, message), intact, newest, size, total = json.loads(done.stdout)
    assert first is None
    assert intact
    assert newest == "checkpoint_1.safetensors"
    assert total <= 2**20 or "disk" not in command
    written = re.search(
        r"checkpoint_2\.safetensors is not written.*: it takes ([\d,]+) bytes, ([\d,]+) are free", message
    )
    assert written, message
    assert abs(int(written[1].replace(",", "")) - size) < 100
    assert message.endswith("older ones are untouched, up to checkpoint_1.safetensors")
    return number, message


def test_a_file_that_may_not_grow_is_reported_and_the_others_are_intact(tmp_path: Path, warm_executable: str) -> None:
    pytest.importorskip("resource")
    number, message = full_disk([warm_executable, "-c", FULL, str(tmp_path), "limit"])
    assert number == errno.EFBIG
    assert os.strerror(errno.EFBIG) in message


def test_a_full_disk_is_reported_and_the_others_are_intact(tmp_path: Path, warm_executable: str) -> None:
    """The disk is a file system of 1 MB that only this process sees."""
    if not small_disks_can_be_mounted(tmp_path):
        pytest.skip("no file system can be mounted here")
    number, message = full_disk([warm_executable, "-c", FULL, str(tmp_path), "disk"])
    assert number == errno.ENOSPC
    assert os.strerror(errno.ENOSPC) in message
    free = re.search(r"([\d,]+) are free", message)
    assert free
    assert int(free[1].replace(",", "")) <= 20_480


WRITER = """
import os, sys, tempfile, time
from pathlib import Path
import torch
from scalenet_gp import build_unet
from scalenet_gp.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint, thin_checkpoints
from scalenet_gp.training.options import CheckpointOptions
folder = Path(sys.argv[1])
torch.set_num_threads(1)
net = build_unet((8, 8), base_nc=64, downsample_factors=[(2, 2)], norm_layer=None)
def write(folder, steps):
    newest = latest_checkpoint(folder)
    first = 1 if newest is None else load_checkpoint(newest).iteration + 1
    for iteration in range(first, first + steps):
        for parameter in net.parameters():
            parameter.data.fill_(iteration)
        state = {"iteration": iteration, "optimizer": {0: torch.full((1000,), float(iteration))}}
        save_checkpoint(folder, net, state, {"written": iteration})
        thin_checkpoints(folder, CheckpointOptions(keep_newest=2))
with tempfile.TemporaryDirectory(dir=folder.parent) as warm_up:
    write(Path(warm_up), 2)
    begin = time.monotonic()
    write(Path(warm_up), 4)
    print((time.monotonic() - begin) / 4, flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        write(folder, 1000)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@pytest.fixture
def writers(tmp_path: Path, warm_executable: str) -> Iterator[subprocess.Popen[str]]:
    """Starts a process that writes one checkpoint after the other for each line, and says its id and that it ended.

    First it says how many seconds a checkpoint takes.
    """
    if not hasattr(os, "fork"):
        pytest.skip("processes cannot be forked here")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [warm_executable, "-c", WRITER, str(tmp_path)], stdin=pipe, stdout=pipe, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_writer_that_is_killed_at_any_moment_leaves_a_whole_one(
    tmp_path: Path, writers: subprocess.Popen[str]
) -> None:
    assert writers.stdin is not None
    assert writers.stdout is not None
    moments, duration = random.Random(5), float(writers.stdout.readline())
    iteration = cut = before = 0
    for _ in range(20):
        writers.stdin.write("\n")
        writers.stdin.flush()
        child = int(writers.stdout.readline())
        time.sleep(moments.uniform(0, 4 * duration))
        os.kill(child, signal.SIGKILL)
        assert writers.stdout.readline() == "ended\n"
        cut += any(tmp_path.glob("*.partial"))
        newest = latest_checkpoint(tmp_path)
        if newest is None:
            continue
        checkpoint = load_checkpoint(newest)
        assert checkpoint.iteration >= iteration
        iteration = checkpoint.iteration
        assert newest.name == f"checkpoint_{iteration}.safetensors"
        assert checkpoint.metadata == {"written": iteration}
        for tensor in (*checkpoint.weights.values(), checkpoint.state["optimizer"][0]):
            assert (tensor == iteration).all()
        there = len(list(tmp_path.glob("*.safetensors")))
        assert there <= max(before, 2) + 1, "a kill between writing and thinning leaves one more than before"
        before = there
    assert iteration > 0
    assert cut > 0, "no kill fell into writing, so this showed nothing"
    (tmp_path / "checkpoint_999.partial").touch()
    save_checkpoint(tmp_path, small_net(), {"iteration": 10_000})
    assert not list(tmp_path.glob("*.partial"))


REFUSED_STATES = {
    "numpy in the optimizer": (
        {"optimizer": {"param_groups": [{"lr": np.int64(1)}]}},
        {},
        r"state\.optimizer\.param_groups\[0\]\.lr is a numpy\.int64",
    ),
    "path in the metadata": ({}, {"data": Path("/data")}, r"metadata\.data is a pathlib\.\w*Path"),
}


@pytest.mark.parametrize(("state", "metadata", "message"), REFUSED_STATES.values(), ids=REFUSED_STATES)
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, state: Any, metadata: Any, message: str) -> None:
    net = small_net()
    save_checkpoint(tmp_path, net, {"iteration": 1})
    before = files(tmp_path)
    with pytest.raises(ValueError, match=f"no checkpoint of iteration 2 is written: {message}"):
        save_checkpoint(tmp_path, net, {"iteration": 2, **state}, metadata)
    assert files(tmp_path) == before


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    net = small_net()
    save_checkpoint(tmp_path, net, {"iteration": 1})
    before = files(tmp_path)
    name, weight = next(iter(net.named_parameters()))
    with torch.no_grad():
        weight.view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match=f"no checkpoint of iteration 2 is written: {re.escape(name)} are not finite"):
        save_checkpoint(tmp_path, net, {"iteration": 2})
    assert files(tmp_path) == before


# ---------------------------------------------------------------------------------------------------- what is refused


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    for load in (load_checkpoint, load_network):
        with pytest.raises(FileNotFoundError, match=rf"there is no \w+ {re.escape(str(tmp_path / 'no.safetensors'))}"):
            load(tmp_path / "no.safetensors")


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("plain", [False, True], ids=["torch's format", "a bare pickle"])
def test_nothing_in_a_file_is_run(tmp_path: Path, plain: bool) -> None:
    path, trace = tmp_path / "checkpoint_1.safetensors", tmp_path / "it ran"
    content = {"weights": {}, "state": {"iteration": 1}, "metadata": {"x": Malicious(trace)}}
    if plain:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    for load in (load_checkpoint, load_network):
        with pytest.raises(ValueError, match="cannot be read as a"):
            load(path)
    assert latest_checkpoint(tmp_path) is None
    assert not trace.exists()
    torch.load(io.BytesIO(path.read_bytes()), weights_only=False) if not plain else pickle.loads(path.read_bytes())
    assert trace.exists(), "the file was harmless, so this test showed nothing"


def refuses(path: Path, state: TrainingState, message: str) -> None:
    """The state cannot go on from the checkpoint, and stays as it was."""
    weights, before = copied(state.net.state_dict()), state.state_dict()
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path).restore(state.net, path, state)
    assert same(weights, dict(state.net.state_dict()))
    assert same(before, state.state_dict())


DIFFERENCES = {
    "more channels": ({"base_nc": 3}, r"in the node that makes 'in_conv_0', .* is 2 there and 3 here"),
    "kernels": (
        {"kernel_sizes": [(3, 3), (1, 1)]},
        r"makes 'in_conv_0', kernel_sizes is .*3, 3.* there and .*1, 1.* here",
    ),
    "deeper": ({"downsample_factors": [(2, 2), (2, 2)]}, r"in the node that makes "),
    "another kind": ({"downsample_mode": "strided"}, r"'downsample_0', kind is Pool there and StridedConv here"),
    "activation": (
        {"final_activation": "Identity"},
        r"makes 'output', final_activation is Sigmoid there and Identity here",
    ),
    "inputs": ({"input_nc": 2}, r"inputs: .*'channels': 1.* there and .*'channels': 2.* here"),
}


@pytest.mark.parametrize(("arguments", "message"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_a_checkpoint_of_another_network_is_refused_and_the_difference_named(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    path = saved(tmp_path, stepped(training(small_net())))
    refuses(path, training(small_net(1, **arguments)), f"is a checkpoint of another network: .*{message}")
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path).restore(small_net(1, **arguments), path)


def test_voxel_sizes_and_scales_tell_networks_apart(tmp_path: Path) -> None:
    path = saved(tmp_path, stepped(training(small_net())))
    with pytest.raises(ValueError, match=r"inputs: .*'8'.* there and .*'4'.* here"):
        load_checkpoint(path).restore(build_unet((4, 4), **SMALL), path)
    scales = build_scalenet([{"top_resolution": (16, 16), **SMALL}, {"top_resolution": (8, 8), **SMALL}])
    with pytest.raises(ValueError, match="name: UNet there and ScaleNet here"):
        load_checkpoint(path).restore(scales, path)


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "optimizer": (
        {"optimizer": partial(torch.optim.SGD, lr=1)},
        r"of an optimizer with other settings: .*betas.* there and .*momentum.* here",
    ),
    "fewer parameters": (
        {"frozen": ("nodes.in_conv_0.*",)},
        r"of an optimizer with other settings: \[\(14, .* there and \[\(10, .* here",
    ),
    "an average": ({"ema_decay": 0.9}, "does not fit how this network is trained: .*average"),
    "a schedule": ({"warm_up": 3}, "does not fit how this network is trained: .*schedule"),
}


@pytest.mark.parametrize(("optimization", "message"), OTHERS.values(), ids=OTHERS)
def test_a_checkpoint_of_other_training_is_refused_and_changes_nothing(
    tmp_path: Path, optimization: dict[str, Any], message: str
) -> None:
    path = saved(tmp_path, stepped(training(small_net())))
    refuses(path, training(small_net(1), **optimization), rf"checkpoint_2\.safetensors .*{message}")


def test_a_state_of_other_parts_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, small_net(), {"iteration": 2, "wisdom": 1})
    refuses(path, training(small_net(1)), r"have different entries in the state of training: .*optimizer.*wisdom")


def test_a_checkpoint_that_lacks_weights_changes_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path, stepped(training(small_net())))
    length = int.from_bytes(path.read_bytes()[:8], "little")
    entries = json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]
    tensors = load_file(path)
    del tensors["weights/nodes.output.layers.0.bias"]
    save_file(tensors, path, entries)
    refuses(
        path, training(small_net(1)), r"checkpoint_2\.safetensors has the spec of this network, but not its weights"
    )
    with pytest.raises(ValueError, match="holds no network that can be built"):
        load_network(path)
