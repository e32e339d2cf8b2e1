"""A run that is killed at any moment, over and over, ends as one that was not."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from scalenet_gp.checkpoint import load_checkpoint
from scalenet_gp.pipelines.train import train
from tests.pipelines.conftest import tiny_config

_CHANGES = {
    "network__1__dropout_prob": 0.2,
    "training__iterations": 40,
    "training__checkpoint_every": 2,
    "training__accumulate": 3,
    "training__ema_decay": 0.9,
    "training__warm_up": 4,
    "training__clip_norm": 1.0,
    "training__images_every": 1000,
}

_SCRIPT = """
import sys
from pathlib import Path
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.train import train
if __name__ == "__main__":
    config, volume, run = map(Path, sys.argv[1:])
    train(Config.read(config), volume, run, "cpu", "json")
"""


def _killed(command: list[str], run: Path, generator: random.Random, losses: dict[int, float]) -> int:
    """Go on with the run until it is killed after some batches, or in the middle of writing a checkpoint."""
    after, while_writing, seen = generator.randint(5, 15), generator.random() < 0.5, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:

        def watch() -> None:
            while process.poll() is None:
                if seen >= after and any((run / "checkpoints").glob("*.partial")):
                    process.send_signal(signal.SIGKILL)
                time.sleep(0.0005)

        if while_writing:
            threading.Thread(target=watch, daemon=True).start()
        for line in process.stdout:
            told = json.loads(line)
            if told["event"] == "step":
                seen += 1
                assert losses.setdefault(told["iteration"], told["loss"]) == told["loss"]
                if seen == after and not while_writing:
                    time.sleep(generator.random() * 0.05)
                    process.send_signal(signal.SIGKILL)
    return process.returncode


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_in_pieces_is_the_run_in_one(volume, tmp_path, workers):
    config = tiny_config(**_CHANGES)
    whole = load_checkpoint(train(config, volume, tmp_path / "whole", "cpu", "none"))
    tiny_config(**_CHANGES, training__workers=workers).write(tmp_path / "config.yaml")
    run, generator, losses, codes = tmp_path / "run", random.Random(workers), {}, []
    script = tmp_path / "train.py"
    script.write_text(_SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "config.yaml"), str(volume), str(run)]
    while not codes or codes[-1]:
        codes.append(_killed(command, run, generator, losses))
    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert len(codes) >= 3
    assert set(losses) <= set(range(1, 41))  # of a batch after whose checkpoint it was killed, nothing was told
    pieces = load_checkpoint(run / "checkpoints" / "checkpoint_40.safetensors")
    for one, other in ((whole.weights, pieces.weights), (whole.average, pieces.average)):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
