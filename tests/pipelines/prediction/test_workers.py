"""Worker processes give the bytes that this process gives, however many there are and whatever happens to them."""

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from scalenet_gp.pipelines.blockwise import UnfinishedBlocksError, read_times
from scalenet_gp.pipelines.prediction import Workers, predict
from scalenet_gp.volumes.storage import group_attributes
from tests.pipelines.conftest import CPU, tiny_config, write_volume
from tests.pipelines.prediction.predictions import BLOCKS, REGION, files, network

pytestmark = pytest.mark.usefixtures("warm_python")

CONFIG = tiny_config(prediction__block_shape=BLOCKS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return network(tmp_path_factory.mktemp("network"), CONFIG)


@pytest.fixture(scope="module")
def alone(volume, checkpoint, tmp_path_factory):
    """The prediction of this process."""
    return files(
        predict(CONFIG, volume, checkpoint, tmp_path_factory.mktemp("alone") / "out.zarr", REGION, workers=CPU)
    )


def worker_pids(output):
    """The worker processes of a prediction, by their command lines."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if b"scalenet_gp.pipelines.prediction.worker" in command and str(output).encode() in b" ".join(command):
            yield int(process.name)


@pytest.mark.slow
def test_one_worker_gives_the_same_bytes(volume, checkpoint, alone, tmp_path):
    output = predict(
        CONFIG, volume, checkpoint, tmp_path / "out.zarr", REGION, workers=Workers(count=1, devices=("cpu",))
    )
    assert files(output) == alone
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.slow
def test_workers_that_are_killed_are_replaced(checkpoint, alone, tmp_path):
    """Three of them, started by a launcher; two are killed in the midst of blocks, and one chunk cannot be read."""
    volume = write_volume(tmp_path / "volume.zarr")
    chunk = volume / "em" / "raw" / "s0" / "0" / "4" / "4"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:40])
    launcher = tmp_path / "launcher"
    launcher.write_text(f'#!/bin/sh\necho "$DAISY_CONTEXT" >> {tmp_path}/started\nexec "$@"\n')
    launcher.chmod(0o755)
    output = tmp_path / "out.zarr"
    done = output.with_name("out.zarr.partial") / "tracking" / "done" / "c" / "0" / "0" / "0"
    killed = []

    def kill():
        for blocks in (5, 30):
            while not done.exists() or sum(done.read_bytes()) < blocks:
                time.sleep(0.01)
            pids = list(worker_pids(output))
            os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(UnfinishedBlocksError) as error:
        predict(
            CONFIG,
            volume,
            checkpoint,
            output,
            REGION,
            workers=Workers(count=3, devices=("cpu",), launcher=f"{launcher} env", host="127.0.0.1"),
        )
    killer.join(10)

    assert len(set(killed)) == 2
    contexts = (tmp_path / "started").read_text().splitlines()
    # daisy may start one more as the run ends, which finds no scheduler and does nothing
    computed = {block.process for block in read_times(output.with_name("out.zarr.partial") / "times")}
    assert len(contexts) >= 3
    assert len(computed) <= 5
    assert all("hostname=127.0.0.1" in context for context in contexts)
    assert list(worker_pids(output)) == []
    # those that see the chunk, of 8 voxels and a margin of a few more
    assert 8 <= len(error.value.failures) <= 30
    for failure in error.value.failures:
        begin = [float(n) for n in re.match(r"\[(.*?)\] to", failure.place)[1].split(",")]
        assert begin[0] < 54
        assert begin[1] >= 108
        assert str(volume / "em" / "raw" / "s0") in failure.cause
        assert "cannot be read" in failure.cause

    chunk.write_bytes(whole)
    before = {path: path.stat().st_mtime_ns for path in output.with_name("out.zarr.partial").rglob("s0/*/*/*/*")}
    predict(CONFIG, volume, checkpoint, output, REGION, workers=CPU)
    assert files(output) == alone
    kept = {
        output.with_name("out.zarr.partial") / "out.zarr" / path.relative_to(output): path.stat().st_mtime_ns
        for path in output.rglob("s0/*/*/*/*")
    }
    assert before.items() <= kept.items()  # what was done is not done again
    assert "skipped_blocks" not in group_attributes(output)
