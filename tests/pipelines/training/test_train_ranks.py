"""Processes that torchrun starts train one network: what one process with all the samples comes to, written once."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scalenet_gp.pipelines.training.train_job import train
from scalenet_gp.training.checkpoint import load_checkpoint
from tests.pipelines.conftest import files_below, tiny_config, write_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux says what a process is made of"),
    pytest.mark.usefixtures("warm_python"),
]

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
CHANGES = {
    "training__checkpoints__every": 3,
    "training__optimization__learning_rate": 0.01,
    "training__log__images_every": None,
}


def started(config, volume, run):
    """Both processes and torchrun itself, which speaks on standard error."""
    # torchrun takes --run and --log for options of its own
    command = [
        sys.executable,
        *TORCHRUN,
        "-m",
        "scalenet_gp.pipelines.cli",
        "train",
        config,
        "--volume",
        volume,
        "--run-folder",
        run,
    ]
    return subprocess.Popen(
        [*map(str, command), "--device", "cpu", "--log-form", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_two_processes_learn_what_one_with_both_samples_does(volume, tmp_path):
    config, run = write_config(tmp_path / "run.yaml", **CHANGES), tmp_path / "run"
    process = started(config, volume, run)
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, err
    told = [json.loads(line) for line in out.splitlines()]
    # of one process alone: the other would tell of each event again
    assert [event["event"] for event in told] == ["begin", *["step"] * 3, "checkpoint", "step", "end"]
    assert [event["iteration"] for event in told if event["event"] == "step"] == [1, 2, 3, 4]
    assert told[-1]["reason"] == "done"
    assert files_below(run / "checkpoints") == ["checkpoint_3.safetensors", "checkpoint_4.safetensors"]
    assert len(list((run / "log").iterdir())) == 2  # of the run, and of its end
    assert {"prediction.zarr", "prediction.png", "scores.json"} <= {path.name for path in run.iterdir()}

    alone = train(tiny_config(**CHANGES, training__batch_size=2), volume, tmp_path / "alone", "cpu", "none")
    ours, theirs = (load_checkpoint(path) for path in (run / "checkpoints" / alone.name, alone))
    assert ours.weights.keys() == theirs.weights.keys()
    for name, weights in ours.weights.items():
        # gradients are summed in another order, and four steps at a rate of 0.01 carry that on
        torch.testing.assert_close(weights, theirs.weights[name], rtol=1e-4, atol=1e-5, msg=name)


def ranks_with(run):
    """The pids of the processes that torchrun started for a run, by their ranks."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words, variables = ((folder / name).read_text() for name in ("cmdline", "environ"))
        except OSError:  # it has ended meanwhile
            continue
        if str(run) in words.split("\0") and (rank := re.search(r"\0RANK=(\d+)\0", f"\0{variables}")):
            found[int(rank[1])] = int(folder.name)
    return found


def test_if_one_is_killed_all_end_and_say_so(volume, tmp_path):
    config, run = write_config(tmp_path / "run.yaml", **CHANGES | {"training__iterations": 100_000}), tmp_path / "run"
    process = started(config, volume, run)
    try:
        while '"step"' not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
        ranks = ranks_with(run)
        assert ranks.keys() == {0, 1}
        os.kill(ranks[1], signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert not any(Path("/proc", str(pid)).exists() for pid in ranks.values())
    assert f"Signal 9 (SIGKILL) received by PID {ranks[1]}" in err
    assert ".lock" not in files_below(run)
