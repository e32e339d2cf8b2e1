"""The process that hands out the blocks is asked to end, and is killed: what is done stays done."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.prediction import predict
from tests.pipelines.conftest import CPU, tiny_config, write_config
from tests.pipelines.prediction.predictions import BLOCKS, files, network
from tests.pipelines.prediction.test_workers import worker_pids

pytestmark = pytest.mark.usefixtures("warm_python")

REGION = Region(begin=(0, 0, 0), end=(54, 180, 72))


def started(config, volume, checkpoint, output):
    command = [
        sys.executable,
        "-m",
        "scalenet_gp.pipelines.cli",
        "predict",
        config,
        "--volume",
        volume,
        "--run",
        "none",
    ]
    command += ["--checkpoint", checkpoint, "--output", output, "--region", "0,0,0:54,180,72", "--devices", "cpu"]
    return subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def done(output):
    path = output.with_name("out.zarr.partial") / "tracking" / "done" / "c" / "0" / "0" / "0"
    return np.frombuffer(path.read_bytes(), bool) if path.exists() else np.zeros(1, bool)


def wait_until(condition, seconds=120):
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("in vain")


@pytest.mark.slow
def test_what_is_done_stays_done(volume, tmp_path):
    config = write_config(tmp_path / "run.yaml", prediction__block_shape=list(BLOCKS))
    settings = tiny_config(prediction__block_shape=BLOCKS)
    checkpoint, output = network(tmp_path, settings), tmp_path / "out.zarr"

    process = started(config, volume, checkpoint, output)
    wait_until(lambda: done(output).sum() >= 5)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == os.EX_TEMPFAIL, told
    assert f"SIGTERM ended the run, which resumes from {output}.partial" in told
    assert list(worker_pids(output)) == []
    first = done(output)
    assert 5 <= first.sum() < first.size

    process = started(config, volume, checkpoint, output)
    wait_until(lambda: done(output).sum() >= first.sum() + 5)
    process.kill()
    process.communicate()
    wait_until(lambda: list(worker_pids(output)) == [], 30)
    second = done(output)
    assert (second >= first).all()
    assert second.sum() < second.size

    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out.zarr.partial").rglob("s0/*/*/*/*")}
    whole = predict(settings, volume, checkpoint, tmp_path / "whole.zarr", REGION, workers=CPU)
    predict(settings, volume, checkpoint, output, REGION, workers=CPU)
    assert files(output) == files(whole)
    kept = sum(
        (output / path.relative_to(tmp_path / "out.zarr.partial" / "out.zarr")).stat().st_mtime_ns == written[path]
        for path in written
    )
    assert kept >= 2 * 2 * second.sum()  # chunks: two classes of two outputs
