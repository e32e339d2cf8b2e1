"""A run that is killed at any moment, over and over, ends as one that was not."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import torch

from scalenet_gp.pipelines.training.train_job import train
from scalenet_gp.training.checkpoint import load_checkpoint
from tests.pipelines.conftest import tiny_config

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")

_ITERATIONS = 16
_CHANGES = {
    "network__subnets__1__dropout_prob": 0.2,
    "training__iterations": _ITERATIONS,
    "training__checkpoints__every": 2,
    "training__optimization__accumulate": 3,
    "training__optimization__ema_decay": 0.9,
    "training__optimization__warm_up": 4,
    "training__optimization__clip_norm": 1.0,
    "training__log__images_every": None,
}

_SCRIPT = """
import json, os, sys, time
from pathlib import Path
import torch
import torch._dynamo  # which optimizers import, in seconds, when they are made
from scalenet_gp.training import checkpoint
from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.training.train_job import train

serialized = checkpoint.serialize_tensors

def slowly(*arguments):
    # long enough for a kill to fall into it
    length, parts = serialized(*arguments)
    return length, (time.sleep(0.0005) or part for part in parts)

checkpoint.serialize_tensors = slowly

if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        config, volume, run = map(Path, json.loads(line))
        child = os.fork()
        if not child:
            train(Config.read(config), volume, run, "cpu", "json")
            sys.stdout.flush()
            os._exit(0)
        print(json.dumps({"event": "started", "pid": child}), flush=True)
        print(json.dumps({"event": "left", "code": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}), flush=True)
"""


@pytest.fixture(scope="module")
def trainer(warm_executable, tmp_path_factory):
    """A process that goes on with a run in a child for each line: to start one anew takes longer than to train."""
    script = tmp_path_factory.mktemp("trainer") / "train.py"
    script.write_text(_SCRIPT)
    pipe = subprocess.PIPE
    with subprocess.Popen([warm_executable, str(script)], stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def whole(volume, tmp_path_factory):
    """The last checkpoint of the run that is not killed."""
    run = tmp_path_factory.mktemp("whole")
    return load_checkpoint(train(tiny_config(**_CHANGES), volume, run, "cpu", "none"))


def _told(trainer: subprocess.Popen[str]) -> dict:
    return json.loads(trainer.stdout.readline())


def _killed(trainer, places: list[Path], generator: random.Random, losses: dict[int, float], while_writing: bool):
    """Go on with the run until it is killed after some batches, or in the middle of writing a checkpoint.

    Returns:
        How the process ended, and whether a checkpoint was left that was not written to its end.
    """
    run, after, seen, ended = places[-1], generator.randint(2, 5), 0, threading.Event()
    trainer.stdin.write(f"{json.dumps(list(map(str, places)))}\n")
    trainer.stdin.flush()
    child = None

    def watch() -> None:
        while not ended.wait(0.0005):
            if seen >= after and any((run / "checkpoints").glob("*.partial")):
                os.kill(child, signal.SIGKILL)
                return

    watcher = threading.Thread(target=watch)
    while (told := _told(trainer))["event"] != "left":
        if told["event"] == "started":
            child = told["pid"]
            if while_writing:
                watcher.start()
        elif told["event"] == "step":
            seen += 1
            assert losses.setdefault(told["iteration"], told["loss"]) == told["loss"]
            if seen == after and not while_writing:
                time.sleep(generator.random() * 0.05)
                os.kill(child, signal.SIGKILL)
    ended.set()
    if while_writing:
        watcher.join()
    return told["code"], any((run / "checkpoints").glob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_in_pieces_is_the_run_in_one(volume, tmp_path, trainer, whole, workers):
    config, run = tmp_path / "config.yaml", tmp_path / "run"
    tiny_config(**_CHANGES, training__workers=workers).write(config)
    generator, losses, codes, cut = random.Random(workers), {}, [], 0
    for while_writing in itertools.cycle([True, False]):
        code, partial = _killed(trainer, [config, volume, run], generator, losses, while_writing)
        codes.append(code)
        cut += partial
        if not code:
            break
    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert len(codes) >= 3
    assert cut > 0, "no kill fell into writing"
    # of each batch something was told before its checkpoint was written
    assert set(losses) == set(range(1, _ITERATIONS + 1))
    pieces = load_checkpoint(run / "checkpoints" / f"checkpoint_{_ITERATIONS}.safetensors")
    for one, other in ((whole.weights, pieces.weights), (whole.average, pieces.average)):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
