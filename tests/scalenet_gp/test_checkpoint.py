"""Checkpoints: what comes back is what was written, and what fails leaves what was there before."""

from __future__ import annotations

import io
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scalenet_gp import LeibNet, build_scalenet, build_unet
from scalenet_gp.checkpoint import latest_checkpoint, load_checkpoint, load_network, save_checkpoint

SMALL: dict[str, Any] = {"base_nc": 2, "downsample_factors": [(2, 2)]}


def small_net(seed: int = 0, **arguments: Any) -> LeibNet:
    torch.manual_seed(seed)
    return build_unet((8, 8), **{**SMALL, **arguments})


def stepped(net: LeibNet, steps: int = 2) -> torch.optim.Optimizer:
    """An optimizer of ``net`` that has a state."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    plan = net.smallest_plan
    for _ in range(steps):
        inputs = {key: torch.rand(1, t.channels, *t.shape) for key, t in plan.input_tensors.items()}
        optimizer.zero_grad()
        sum(output.sum() for output in net(inputs, plan).values()).backward()
        optimizer.step()
    return optimizer


def same(one: Any, other: Any) -> bool:
    """Equality to the bit, through tensors."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_what_comes_back_is_what_was_written(tmp_path: Path) -> None:
    net = small_net(norm_layer="batch")
    optimizer = stepped(net)
    metadata = {"classes": ["mito", "er"], "iteration": "any name goes", "nested": {"lr": 1e-3, "none": None}}
    path = save_checkpoint(tmp_path / "new" / "folder", net, optimizer, 7, metadata)
    assert path == tmp_path / "new" / "folder" / "checkpoint_7.pt"
    assert list(files(path.parent)) == ["checkpoint_7.pt"]
    checkpoint = load_checkpoint(path)
    assert checkpoint.iteration == 7
    assert checkpoint.metadata == metadata
    assert same(dict(net.state_dict()), dict(checkpoint.weights))
    assert same(optimizer.state_dict(), checkpoint.optimizer)
    other = small_net(1, norm_layer="batch")
    fresh = torch.optim.Adam(other.parameters())
    checkpoint.restore(other, path, fresh)
    assert same(dict(net.state_dict()), dict(other.state_dict()))
    assert same(optimizer.state_dict(), fresh.state_dict())


def test_a_network_is_built_from_its_checkpoint_alone(tmp_path: Path) -> None:
    subnets = [{"top_resolution": (16, 16), **SMALL}, {"top_resolution": (8, 8), **SMALL, "norm_layer": "batch"}]
    net = build_scalenet(subnets)
    path = save_checkpoint(tmp_path, net, stepped(net), 1)
    again = load_network(path)
    assert again.fingerprint == net.fingerprint
    assert not again.training
    plan = net.eval().smallest_plan
    inputs = {key: torch.rand(1, t.channels, *t.shape) for key, t in plan.input_tensors.items()}
    assert same(net(inputs, plan), again(inputs, plan))


def test_the_newest_is_the_one_of_the_highest_iteration(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "absent") is None
    for name in (
        "checkpoint_9.pt",
        "checkpoint_10.pt",
        "checkpoint_11.partial",
        "checkpoint_x.pt",
        "checkpoint_99.pt~",
    ):
        (tmp_path / name).touch()
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint_10.pt"


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("error", [OSError("no space left on device"), Interrupted()])
@pytest.mark.parametrize("iteration", [1, 2], ids=["over an earlier one", "beside an earlier one"])
def test_a_save_that_fails_midway_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, iteration: int
) -> None:
    net = small_net()
    optimizer = stepped(net)
    save_checkpoint(tmp_path, net, optimizer, 1)
    before = files(tmp_path)
    save = torch.save

    def save_half(content: object, file: io.BufferedWriter) -> None:
        whole = io.BytesIO()
        save(content, whole)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        assert (tmp_path / f"checkpoint_{iteration}.partial").stat().st_size > 1000
        raise error

    monkeypatch.setattr(torch, "save", save_half)
    stepped(net)
    with pytest.raises(type(error)):
        save_checkpoint(tmp_path, net, optimizer, iteration)
    assert files(tmp_path) == before


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from scalenet_gp import build_unet
from scalenet_gp.checkpoint import save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
net = build_unet((8, 8), base_nc=16, downsample_factors=[(2, 2)])
try:
    save_checkpoint(Path(sys.argv[1]), net, torch.optim.Adam(net.parameters()), 1)
except (OSError, RuntimeError) as error:
    sys.exit(3)
"""


def test_a_file_that_the_system_refuses_to_let_grow_leaves_what_was_there(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    net = small_net()
    save_checkpoint(tmp_path, net, stepped(net), 1)
    before = files(tmp_path)
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert files(tmp_path) == before


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    net = small_net()
    path = save_checkpoint(tmp_path, net, stepped(net), 1)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for load in (load_checkpoint, load_network):
        with pytest.raises(ValueError, match=rf"{re.escape(str(path))} cannot be read as a checkpoint"):
            load(path)


@pytest.mark.parametrize("content", [{"weights": {}}, [1, 2], {"spec": {}, "unknown": 1}, torch.zeros(3)])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "checkpoint_1.pt")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / "checkpoint_1.pt")


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    for load in (load_checkpoint, load_network):
        with pytest.raises(FileNotFoundError, match=re.escape(f"there is no checkpoint {tmp_path / 'no.pt'}")):
            load(tmp_path / "no.pt")


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("plain", [False, True], ids=["torch's format", "a bare pickle"])
def test_nothing_in_a_file_is_run(tmp_path: Path, plain: bool) -> None:
    path, trace = tmp_path / "checkpoint_1.pt", tmp_path / "it ran"
    content = {"spec": {}, "weights": {}, "optimizer": {}, "iteration": 1, "metadata": {"x": Malicious(trace)}}
    if plain:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="holds more than tensors and plain values, and code is not run"):
        load_checkpoint(path)
    assert not trace.exists()
    torch.load(path, weights_only=False) if not plain else pickle.loads(path.read_bytes())
    assert trace.exists(), "the file was harmless, so this test showed nothing"


@pytest.mark.parametrize("where", ["metadata", "optimizer"])
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, where: str) -> None:
    net = small_net()
    optimizer = stepped(net)
    save_checkpoint(tmp_path, net, optimizer, 1)
    before = files(tmp_path)
    if where == "optimizer":
        optimizer.param_groups[0]["lr"] = np.float64(1e-3)
    metadata = {"data": Path("/data")} if where == "metadata" else {}
    with pytest.raises(ValueError, match="holds more than tensors and plain values"):
        save_checkpoint(tmp_path, net, optimizer, 2, metadata)
    assert files(tmp_path) == before


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    net = small_net()
    optimizer = stepped(net)
    save_checkpoint(tmp_path, net, optimizer, 1)
    before = files(tmp_path)
    name, weight = next(iter(net.named_parameters()))
    with torch.no_grad():
        weight.view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match=f"no checkpoint of iteration 2 is written: {re.escape(name)} are not finite"):
        save_checkpoint(tmp_path, net, optimizer, 2)
    assert files(tmp_path) == before


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
    net = small_net()
    path = save_checkpoint(tmp_path, net, stepped(net), 1)
    other = small_net(1, **arguments)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=f"is a checkpoint of another network: .*{message}"):
        load_checkpoint(path).restore(other, path)
    assert same(before, dict(other.state_dict()))


def test_voxel_sizes_and_scales_tell_networks_apart(tmp_path: Path) -> None:
    net = small_net()
    path = save_checkpoint(tmp_path, net, stepped(net), 1)
    with pytest.raises(ValueError, match=r"inputs: .*'8'.* there and .*'4'.* here"):
        load_checkpoint(path).restore(build_unet((4, 4), **SMALL), path)
    scales = build_scalenet([{"top_resolution": (16, 16), **SMALL}, {"top_resolution": (8, 8), **SMALL}])
    with pytest.raises(ValueError, match="name: UNet there and ScaleNet here"):
        load_checkpoint(path).restore(scales, path)


def test_a_checkpoint_of_another_optimizer_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    net = small_net()
    path = save_checkpoint(tmp_path, net, stepped(net), 1)
    other = small_net(1)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"of an optimizer with other settings: .*betas.* there and .*momentum.* here"):
        load_checkpoint(path).restore(other, path, torch.optim.SGD(other.parameters(), lr=1))
    assert same(before, dict(other.state_dict()))


def test_a_checkpoint_that_lacks_weights_changes_nothing(tmp_path: Path) -> None:
    net = small_net()
    optimizer = stepped(net)
    path = save_checkpoint(tmp_path, net, optimizer, 1)
    content = torch.load(path, weights_only=True)
    del content["weights"]["nodes.output.layers.0.bias"]
    torch.save(content, path)
    other = small_net(1)
    fresh = torch.optim.Adam(other.parameters())
    before = {name: weight.clone() for name, weight in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"checkpoint_1\.pt has the spec of this network, but not its weights"):
        load_checkpoint(path).restore(other, path, fresh)
    assert same(before, dict(other.state_dict()))
    assert not fresh.state
