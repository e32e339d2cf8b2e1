"""Files: the network that comes back gives the same outputs to the bit; what is damaged is refused and named."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from funlib.geometry import Roi
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, load_file, save_file
from torch import nn

from scalenet_gp import LeibNet, build_attentive_scalenet, build_autoencoder, build_scalenet, build_unet
from scalenet_gp.serialization import CHECKSUMS, serialize_tensors
from scalenet_gp.testing import random_inputs, randomize
from scalenet_gp.training.checkpoint import load_network, save_checkpoint
from tests.scalenet_gp.graph.strategies import networks, requests
from tests.scalenet_gp.helpers import values
from tests.scalenet_gp.leibnet.test_spec import A, Pointwise

SMALL: dict[str, Any] = {"base_nc": 2, "downsample_factors": [(2, 2)]}


def small_net(seed: int = 0, **arguments: Any) -> LeibNet:
    torch.manual_seed(seed)
    return build_unet((8, 8), **{**SMALL, **arguments})


def same_outputs(net: LeibNet, again: LeibNet, dtype: torch.dtype = torch.float32) -> bool:
    """True if two networks agree to the bit, weights and outputs."""
    plan = net.smallest_plan
    inputs = random_inputs(plan, dtype)
    theirs = again.state_dict()
    weights = all(
        torch.equal(tensor, theirs[name]) and tensor.dtype == theirs[name].dtype
        for name, tensor in net.state_dict().items()
    )
    with torch.no_grad():
        outputs, others = net(inputs, plan), again(inputs, plan)
    return weights and all(torch.equal(outputs[key], others[key]) for key in plan.outputs)


@given(data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_network_comes_back(tmp_path: Path, data: st.DataObject) -> None:
    net = randomize(data.draw(networks(linear=False)))
    plan = net.plan(data.draw(requests(net)))
    assume(values(plan) < 100_000)
    again = LeibNet.load(net.save(tmp_path / "net.safetensors"))
    assert again.fingerprint == net.fingerprint
    inputs = random_inputs(plan)
    with torch.no_grad():
        outputs, others = net(inputs, plan), again(inputs, plan)
    assert all(torch.equal(outputs[key], others[key]) for key in plan.outputs)


JOINS: dict[int, dict[str, str]] = {
    64: {},
    32: {"bottleneck_join": "sum"},
    16: {"bottleneck_join": "gated_sum"},
    8: {"bottleneck_join": "attention"},
}
NETWORKS = {
    "2D": lambda: small_net(),
    "3D": lambda: build_unet((8, 8, 8), base_nc=2, downsample_factors=[(2, 2, 2)]),
    "batch norm": lambda: small_net(norm_layer="batch", residual=True),
    "instance norm": lambda: small_net(norm_layer="instance", squeeze_excitation=True),
    "strided and transposed": lambda: small_net(downsample_mode="strided", upsample_mode="transposed"),
    "heads and outputs at every level": lambda: small_net(
        downsample_factors=[(2, 2), (2, 2)], deep_supervision=True, heads={"cells": ["nucleus", "mito"]}, separable=True
    ),
    "transformer": lambda: small_net(base_nc=4, bottleneck="transformer", eca=True, upsample_mode="linear"),
    "atrous pyramid": lambda: small_net(bottleneck="atrous", dilations=[(1, 1), (2, 2)]),
    "autoencoder": lambda: build_autoencoder((8, 8), latent_nc=3, **SMALL),
    "attentive ScaleNet": lambda: build_attentive_scalenet(
        [{"top_resolution": (r, r), **SMALL, **join} for r, join in JOINS.items()]
    ),
    "ScaleNet": lambda: build_scalenet([{"top_resolution": (r, r), **SMALL, "base_nc": 4} for r in (16, 8)]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_weights_of_any_type_come_back(tmp_path: Path, build: Any, dtype: torch.dtype) -> None:
    net = randomize(build()).to(dtype)
    again = LeibNet.load(str(net.save(str(tmp_path / "net.safetensors"))))
    assert not again.training
    assert same_outputs(net, again, dtype)


def test_weights_lie_in_memory_as_those_of_a_new_network_do(tmp_path: Path) -> None:
    net = build_unet((8, 8, 8), base_nc=4, downsample_factors=[(2, 2, 2)])
    again = LeibNet.load(net.save(tmp_path / "net.safetensors"))
    strides = [{name: w.stride() for name, w in n.named_parameters()} for n in (net, again)]
    assert strides[0] == strides[1]
    assert not all(weight.is_contiguous() for weight in again.parameters()), "this showed nothing"


def test_running_statistics_are_part_of_it(tmp_path: Path) -> None:
    net = small_net(norm_layer="batch")
    plan = net.smallest_plan
    for _ in range(3):
        net.train()(random_inputs(plan, torch.float32), plan)
    again = LeibNet.load(net.save(tmp_path / "net.safetensors"))
    assert again.state_dict()["nodes.in_conv_0.layers.2.num_batches_tracked"] == 3
    assert same_outputs(net.eval(), again)


def test_weights_that_share_memory_come_back(tmp_path: Path) -> None:
    net = small_net(norm_layer=None)
    first, second = (net.nodes["out_conv_0"].layers[i] for i in (0, 2))
    net.nodes["in_conv_0"].layers[2].weight = second.weight
    first.weight.data = torch.rand(2, 12, 3, 3)[:, 3:9]  # a part of something larger
    again = LeibNet.load(net.save(tmp_path / "net.safetensors"))
    assert same_outputs(net.eval(), again)


def test_one_file_is_written_and_any_reader_of_safetensors_reads_it(tmp_path: Path) -> None:
    net = small_net()
    path = net.save(tmp_path / "new" / "folder" / "net.safetensors")
    assert [p.name for p in path.parent.iterdir()] == ["net.safetensors"]
    weights = load_file(path)
    assert weights.keys() == net.state_dict().keys()
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + length])
    assert json.loads(header["__metadata__"]["scalenet_gp.spec"]) == net.to_spec()


def test_a_checkpoint_is_read_by_the_same_function(tmp_path: Path) -> None:
    net = randomize(small_net()).to(torch.bfloat16)
    checkpoint = save_checkpoint(tmp_path, net, {"iteration": 1})
    file = net.save(tmp_path / "net.safetensors")
    assert same_outputs(load_network(checkpoint), load_network(str(file)), torch.bfloat16)
    assert same_outputs(net, load_network(file), torch.bfloat16)


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test records the calls of fsync, and for each whether the file had its name already."""
    path, flushed = tmp_path / "net.safetensors", []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        there = next(p for p in (tmp_path, *tmp_path.iterdir()) if p.stat().st_ino == os.fstat(descriptor).st_ino)
        flushed.append((there.name, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    small_net().save(path)
    assert flushed == [("net.partial", False), (tmp_path.name, True)]


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_file_system_that_flushes_no_folders_is_no_fault_and_one_that_fails_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, passes: bool
) -> None:
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    with contextlib.nullcontext() if passes else pytest.raises(OSError, match="Input/output error"):
        small_net().save(tmp_path / "net.safetensors")
    assert same_outputs(small_net().eval(), LeibNet.load(tmp_path / "net.safetensors"))


# ---------------------------------------------------------------------------------------------- what is not written


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a network is written as net\.safetensors, not as net\.pt"):
        small_net().save(tmp_path / "net.pt")


def test_a_network_that_no_spec_can_hold_is_not_written(tmp_path: Path) -> None:
    path = small_net().save(tmp_path / "net.safetensors")
    before = path.read_bytes()
    net = LeibNet([Pointwise(["a"], ["b"], nn.Conv2d(1, 1, 1))], A, ["b"])
    with pytest.raises(ValueError, match="no spec can hold the argument function of the Pointwise that makes 'b'"):
        net.save(path)
    assert path.read_bytes() == before


FULL_DISK = """
import resource, signal, sys
from scalenet_gp import build_unet
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    build_unet((8, 8), base_nc=16, downsample_factors=[(2, 2)]).save(sys.argv[1])
except OSError as error:
    sys.exit(3)
"""


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path: Path, warm_executable: str) -> None:
    pytest.importorskip("resource")
    path = small_net().save(tmp_path / "net.safetensors")
    before = path.read_bytes()
    done = subprocess.run([warm_executable, "-c", FULL_DISK, str(path)], check=False, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]
    assert path.read_bytes() == before


# ----------------------------------------------------------------------------------------------------- what is not read


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(f"there is no file {tmp_path / 'no.safetensors'}")):
        LeibNet.load(tmp_path / "no.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = small_net().save(tmp_path / "net.safetensors")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} cannot be read as a safetensors file"):
        LeibNet.load(path)


def test_a_flipped_bit_in_a_weight_is_refused(tmp_path: Path) -> None:
    path = small_net().save(tmp_path / "net.safetensors")
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"{re.escape(str(path))} .*the tensor 'nodes\..*' does not match its checksum"
    ):
        LeibNet.load(path)


def outcome(path: Path) -> LeibNet | str:
    """The network in a file, or what is wrong with it."""
    try:
        return LeibNet.load(path)
    except ValueError as error:
        return str(error)


@given(position=st.integers(0, 1500), value=st.integers(0, 255))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_header_is_refused_or_does_no_harm(tmp_path: Path, position: int, value: int) -> None:
    """A byte of the description may be wrong in a way that leaves a network: then it is one of the same weights."""
    path = tmp_path / "net.safetensors"
    net = small_net()
    whole = bytearray(net.save(path).read_bytes())
    assume(whole[position] != value)
    whole[position] = value
    path.write_bytes(whole)
    again = outcome(path)
    assert str(path) in again if isinstance(again, str) else again.state_dict().keys() == net.state_dict().keys()


def rewritten(path: Path, weights: Any = None, spec: Any = None) -> Path:
    """The file with other weights, or with another spec; ``spec`` as text."""
    content = load(path.read_bytes())
    length = int.from_bytes(path.read_bytes()[:8], "little")
    metadata = json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]
    if spec is not None:
        metadata["scalenet_gp.spec"] = spec
    del metadata[CHECKSUMS]
    _, parts = serialize_tensors(content if weights is None else weights(content), metadata)
    path.write_bytes(b"".join(parts))
    return path


FIRST = "nodes.in_conv_0.layers.0.weight"
WRONG_WEIGHTS = {
    "missing": (lambda w: {k: v for k, v in w.items() if k != FIRST}, rf'Missing key.*"{re.escape(FIRST)}"'),
    "left over": (lambda w: {**w, "more": torch.zeros(1)}, r'Unexpected key.*"more"'),
    "shape": (lambda w: {**w, FIRST: torch.zeros(2, 1, 3, 5)}, rf"{re.escape(FIRST)}.*\[2, 1, 3, 5\].*\[2, 1, 3, 3\]"),
    "type": (lambda w: {**w, FIRST: w[FIRST].to(torch.int64)}, "floating point"),
}


@pytest.mark.parametrize(("change", "message"), WRONG_WEIGHTS.values(), ids=WRONG_WEIGHTS)
def test_weights_of_another_network_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = rewritten(small_net().save(tmp_path / "net.safetensors"), weights=change)
    with pytest.raises(
        ValueError, match=rf"(?s){re.escape(str(path))} holds no network that can be built: .*{message}"
    ):
        LeibNet.load(path)


WRONG_SPECS = {
    "schema": ('{"schema": 2}', "reads network specs of schema 1, not 2"),
    "no mapping": ("[]", "a spec is a mapping, .* of type list"),
    "kind": (json.dumps(small_net().to_spec()).replace('"Pool"', '"os.system"'), r"no kind of node 'os\.system'"),
    "argument": (json.dumps(small_net().to_spec()).replace('"input_nc"', '"inputs"'), "'inputs'"),
    "no JSON": ("{'schema': 1}", "is not JSON"),
}


@pytest.mark.parametrize(("spec", "message"), WRONG_SPECS.values(), ids=WRONG_SPECS)
def test_a_spec_that_cannot_be_built_is_refused(tmp_path: Path, spec: str, message: str) -> None:
    path = rewritten(small_net().save(tmp_path / "net.safetensors"), spec=spec)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}.*{message}"):
        LeibNet.load(path)


def test_weights_alone_are_no_network(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(load(small_net().save(tmp_path / "net.safetensors").read_bytes()), path, {"format": "pt"})
    with pytest.raises(ValueError, match=r"has weights but no spec of a network: its metadata have \['format'\]"):
        LeibNet.load(path)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="cannot be read as a safetensors file"):
        load_network(path)


def test_plans_made_before_fit_what_comes_back(tmp_path: Path) -> None:
    net = small_net().eval()
    plan = net.plan({"output": Roi((8, -16), (24, 16))})
    again = LeibNet.load(net.save(tmp_path / "net.safetensors"))
    inputs = random_inputs(plan, torch.float32)
    assert torch.equal(net(inputs, plan)["output"], again(inputs, plan)["output"])
