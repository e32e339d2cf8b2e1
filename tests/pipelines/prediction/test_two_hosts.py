"""Workers on two hosts, each a network namespace with an address of its own."""

import os
import shutil
import subprocess

import pytest

from scalenet_gp.pipelines.prediction import Workers, predict
from tests.pipelines.conftest import CPU, tiny_config
from tests.pipelines.prediction.predictions import BLOCKS, REGION, files, network

pytestmark = pytest.mark.usefixtures("warm_python")


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)


@pytest.fixture
def hosts():
    """Two namespaces; and addresses of this machine in the net of each."""
    if shutil.which("ip") is None:
        pytest.skip("there is no program ip to make network namespaces with")
    names, made = [f"scalenet{os.getpid()}{letter}" for letter in "ab"], []
    try:
        for number, name in enumerate(names, start=1):
            net, here, there = f"10.213.{number}", f"sch{os.getpid()}{number}", f"sct{os.getpid()}{number}"
            ip("netns", "add", name)
            made.append(name)
            ip("link", "add", "name", here, "type", "veth", "peer", "name", there)
            ip("link", "set", there, "netns", name)
            ip("address", "add", f"{net}.1/24", "dev", here)
            ip("link", "set", here, "up")
            ip("-n", name, "address", "add", f"{net}.2/24", "dev", there)
            ip("-n", name, "link", "set", there, "up")
            ip("-n", name, "route", "add", "default", "via", f"{net}.1")
        yield names
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces take rights that are not there: {error.stderr.strip()}")
    finally:
        for name in made:
            ip("netns", "delete", name)


@pytest.mark.slow
def test_workers_of_two_hosts_give_the_same_bytes(volume, tmp_path, hosts):
    config = tiny_config(prediction__block_shape=BLOCKS)
    checkpoint = network(tmp_path, config)
    launcher = tmp_path / "launcher"
    launcher.write_text(
        f"#!/bin/sh\nmkdir {tmp_path}/taken 2>/dev/null && host={hosts[0]} || host={hosts[1]}\n"
        f'ip netns exec $host ip -4 -o address >> {tmp_path}/addresses\nexec ip netns exec $host "$@"\n'
    )
    launcher.chmod(0o755)
    workers = Workers(count=2, devices=("cpu",), launcher=str(launcher), host="10.213.1.1")
    output = predict(config, volume, checkpoint, tmp_path / "out.zarr", REGION, workers=workers)
    alone = predict(config, volume, checkpoint, tmp_path / "alone.zarr", REGION, workers=CPU)
    assert files(output) == files(alone)
    addresses = (tmp_path / "addresses").read_text()
    assert "10.213.1.2" in addresses
    assert "10.213.2.2" in addresses
    assert "10.213.1.1" not in addresses
