"""Faults that end a run, provoked through the command line: the user's message, and the checkpoint to go on from."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
import zarr
from safetensors.numpy import load_file

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.cli import main
from scalenet_gp.pipelines.evaluation.evaluate_job import evaluate
from scalenet_gp.pipelines.training.train_job import train
from scalenet_gp.training.checkpoint import latest_checkpoint, load_checkpoint
from tests.pipelines.cli.test_cli import run, said
from tests.pipelines.conftest import CROPS, files_below, tiny_config, tissue, write_array, write_config
from tests.pipelines.training.test_train import assert_equal, reporting
from tests.small_disk import small_disks_can_be_mounted

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux says what a process is made of")


def arguments(config, volume, folder):
    return ["train", config, "--volume", volume, "--run", folder, "--device", "cpu", "--log", "json"]


def events(text, kind):
    told = map(json.loads, text.splitlines())
    return [event for event in told if event["event"] == kind]


def one_error(lines):
    assert len(lines) == 1, "\n".join(lines)
    (line,) = lines
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


# --------------------------------------------------------------------------------------------------- poisoned raw data


@pytest.fixture
def float_volume(tmp_path):
    """The usual volume, its raw data as floats, and the finest level of it to write to."""
    raw, masks = tissue()
    volume = tmp_path / "volume"
    write_array(volume / "em" / "raw", (raw / 255).astype(np.float32), levels=3)
    for name, crop in CROPS.items():
        box = tuple(slice(*bounds) for bounds in crop)
        write_array(volume / "labels" / "crop" / name, masks[name][box], [bounds[0] for bounds in crop], labels=True)
    return volume, zarr.open_array(str(volume / "em" / "raw" / "s0"), mode="r+")


def test_steps_on_a_poisoned_chunk_are_skipped_and_the_run_goes_on(monkeypatch, capsys, tmp_path, float_volume):
    volume, finest = float_volume
    finest[:8, :8, :8] = np.nan
    config = write_config(
        tmp_path / "run.yaml", augmentation=[], training__overhang=None, training__iterations=10, training__seed=3
    )
    monkeypatch.setattr(sys, "argv", ["scalenet-gp", *map(str, arguments(config, volume, tmp_path / "run"))])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    steps = events(capsys.readouterr().out, "step")
    skipped = [step["skipped"] for step in steps]
    # the loss is null where the batch reached into the chunk, and those steps are the ones that are counted
    assert skipped == np.cumsum([step["loss"] is None for step in steps]).tolist()
    assert 0 < skipped[-1] < len(steps) == 10
    final = load_checkpoint(tmp_path / "run" / "checkpoints" / "checkpoint_10.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in final.weights.values())
    assert final.state["skipped"] == skipped[-1]


def test_too_many_in_a_row_end_the_run_and_leave_the_batch(monkeypatch, capsys, tmp_path, float_volume):
    volume, finest = float_volume
    finest[:] = np.nan
    config = write_config(tmp_path / "run.yaml", augmentation=[], training__optimization__skips_in_a_row=2)
    assert run(monkeypatch, *arguments(config, volume, tmp_path / "run")) == 1
    out, err = said(capsys)
    left = tmp_path / "run" / "skipped_3.safetensors"
    message = one_error(err)
    assert message == (
        "3 steps in a row were skipped, the last in iteration 3, where the input '1_input' is not finite; that batch "
        f"is in {left}"
    )
    assert events(out, "end") == [{"event": "end", "reason": f"TrainingDivergedError: {message}", "checkpoint": None}]
    arrays = load_file(left)
    assert {"RAW_0_INPUT", "RAW_1_INPUT", "TARGET_0_OUTPUT", "MASK_1_OUTPUT"} <= arrays.keys()
    assert np.isnan(arrays["RAW_1_INPUT"]).all()
    assert np.isfinite(arrays["RAW_0_INPUT"]).all()
    # of a network that has had nothing to learn from there is no checkpoint
    assert not list((tmp_path / "run").glob("checkpoints/*"))


# ------------------------------------------------------------------------------------------------------ dead processes


def children():
    """The processes that this one has started and that are alive."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
            command = status.with_name("cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if int(parent) == os.getpid() and state != "Z" and "resource_tracker" not in command:
            found.append(int(status.parent.name))
    return found


@LINUX
@pytest.mark.slow
# the news of the death may come while torch opens a file, which then closes itself with a warning that nobody can catch
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_worker_is_named_and_the_run_goes_on_from_its_last_iteration(monkeypatch, capsys, tmp_path, volume):
    changes = {"training__iterations": 400, "training__checkpoints__every": 1000, "training__log__images_every": None}
    config = write_config(
        tmp_path / "run.yaml", **changes, training__optimization__schedule="constant", training__workers=1
    )
    before, done = set(children()), []

    def kill(record):
        done.append(record.iteration)
        if record.iteration == 2:
            os.kill(max(set(children()) - before), signal.SIGKILL)

    with reporting(kill):
        assert run(monkeypatch, *arguments(config, volume, tmp_path / "run")) == 1
    message = one_error(said(capsys)[1])
    number = done[-1]
    assert re.match(
        r"worker \d \(pid \d+\) was killed by SIGKILL .* while (waiting for work|making batch \d+)", message
    )
    checkpoint = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint.name == f"checkpoint_{number}.safetensors"
    assert set(children()) <= before
    longer = {**changes, "training__iterations": number + 1, "training__optimization__schedule": "constant"}
    gone_on = train(tiny_config(**longer), volume, tmp_path / "run", "cpu", "none")
    assert_equal(gone_on, train(tiny_config(**longer), volume, tmp_path / "whole", "cpu", "none"))


@LINUX
def test_a_second_run_and_another_config_are_refused_and_sigterm_ends_the_first(
    warm_executable, monkeypatch, capsys, tmp_path, volume
):
    changes = {"training__iterations": 100_000, "training__log__images_every": None}
    config, folder = write_config(tmp_path / "run.yaml", **changes), tmp_path / "run"
    command = [warm_executable, "-m", "scalenet_gp.pipelines.cli", *map(str, arguments(config, volume, folder))]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while '"step"' not in (line := first.stdout.readline()):
            assert line, first.stderr.read()
        assert run(monkeypatch, *arguments(config, volume, folder)) == 1
        message = one_error(said(capsys)[1])
        assert message.startswith(f"{folder} is being trained by pid ")
        pid = re.search(r" by pid (\d+) on host ", message)[1]
        # it has the other end of the pipe that we read from
        assert os.stat(f"/proc/{pid}/fd/1").st_ino == os.fstat(first.stdout.fileno()).st_ino
        assert message.endswith("; wait for its end, or choose another folder")
        time.sleep(0.1)
        first.send_signal(signal.SIGTERM)
        out, err = first.communicate(timeout=60)
    finally:
        first.kill()
    assert first.returncode == 75
    newest = latest_checkpoint(folder / "checkpoints")
    ended = f"SIGTERM ended the run, which resumes from {newest}"
    assert err == f"{ended}\n"
    assert events(out, "step")[-1]["iteration"] == load_checkpoint(newest).iteration
    assert json.loads(out.splitlines()[-1]) == {"event": "end", "reason": ended, "checkpoint": str(newest)}
    assert ".lock" not in files_below(folder)

    before = files_below(folder)
    other = write_config(tmp_path / "other.yaml", **changes, training__batch_size=2, network__subnets__1__base_nc=3)
    assert run(monkeypatch, *arguments(other, volume, folder)) == 1
    message = one_error(said(capsys)[1])
    assert message.startswith(
        f"choose another folder than {folder} for this config, as the run there has another one: "
        "network.subnets.1.base_nc: 2 there, 3 here; training.batch_size: 1 there, 2 here. Of a run that is resumed, "
    )
    assert files_below(folder) == before


# ---------------------------------------------------------------------------------------------------------- a full disk

FULL = """
import resource, shutil, sys
from pathlib import Path
import torch
from scalenet_gp.pipelines.cli import main
from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.training.train_job import train
from tests.small_disk import mount_small_disk
torch.set_num_threads(1)
kind, short, long, volume, run, left = sys.argv[1:]
if kind == "disk":
    mount_small_disk(run)
train(Config.read(Path(short)), volume, Path(run), "cpu", "none")
if kind == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
else:
    Path(run, "other").write_bytes(bytes(shutil.disk_usage(run).free - 100_000))
sys.argv = ["scalenet-gp", "train", long, "--volume", volume, "--run", run, "--device", "cpu", "--log", "json"]
try:
    main()
finally:
    Path(run, "other").unlink(missing_ok=True)
    if kind == "disk":
        shutil.copytree(run, left)
"""


def test_without_room_for_a_checkpoint_the_one_before_is_left_to_go_on_from(warm_executable, tmp_path, volume):
    """The disk is a file system of 1 MB or, where none can be mounted, the size of files is limited.

    Tests of checkpoints provoke both, and find them reported alike.
    """
    changes = {f"network__subnets__{scale}__base_nc": 8 for scale in (0, 1)} | {"training__log__images_every": None}
    short, long = (
        write_config(
            tmp_path / f"{n}.yaml", **changes, training__iterations=n, training__optimization__schedule="constant"
        )
        for n in (2, 4)
    )
    kind, folder, left = "disk", tmp_path / "small", tmp_path / "left"
    folder.mkdir()
    if not small_disks_can_be_mounted(folder):
        kind, left = "limit", folder
    done = subprocess.run(
        [warm_executable, "-c", FULL, kind, *map(str, (short, long, volume, folder, left))],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    # of the batch that could not be saved is told, too
    assert [event["iteration"] for event in events(done.stdout, "step")] == [3]
    message = one_error(done.stderr.splitlines())
    assert re.search(
        r"checkpoint_3\.safetensors is not written, as there is no room .*: it takes [\d,]+ bytes, "
        r"[\d,]+ are free on the disk; older ones are untouched, up to checkpoint_2\.safetensors$",
        message,
    ), message
    assert [path.name for path in (left / "checkpoints").iterdir()] == ["checkpoint_2.safetensors"]
    config = tiny_config(**changes, training__iterations=4, training__optimization__schedule="constant")
    gone_on = train(config, volume, left, "cpu", "none")
    assert_equal(gone_on, train(config, volume, tmp_path / "whole", "cpu", "none"))


# -------------------------------------------------------------------------------------------------------- out of memory

LITTLE_MEMORY = """
import resource, sys
import torch
from scalenet_gp.training import memory
from scalenet_gp.pipelines.cli import main
torch.set_num_threads(1)
memory._what_fits = lambda *_: "What would fit is for tests of that"  # looking for it takes long
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 450 * 2**20,) * 2)
main()
"""


@LINUX
@pytest.mark.slow
def test_out_of_memory_names_the_largest_tensors(warm_executable, tmp_path, volume):
    config = write_config(
        tmp_path / "run.yaml",
        augmentation=[],
        network__subnets__0__base_nc=128,
        network__subnets__1__base_nc=128,
        training__output_shape=[72] * 3,
        training__overhang=[36] * 3,
        training__batch_size=8,
    )
    done = subprocess.run(
        [warm_executable, "-c", LITTLE_MEMORY, *map(str, arguments(config, volume, tmp_path / "run"))],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    notice, line = done.stderr.splitlines()
    assert notice == "out of memory on cpu; working out what would fit, which can take a minute"
    assert re.match(
        r"out of memory on cpu: a step of training on '1_output' of 16 × 16 × 16 voxels .* in batches of 8, needs "
        r"about .* Its largest tensors: '1_in_conv_0' 8 × 128 × 24 × 24 × 24 \(54 MiB\), .*\. "
        r"What would fit is for tests of that",
        one_error([line]),
    ), line
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_is_resumed_with_its_own_data_only(volume, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (recorded,) = yaml.safe_load((run / "config.yaml").read_text())["learned_from"]
    assert recorded["raw"]["path"] == str(volume / "em" / "raw")
    checkpoint = load_checkpoint(run / "checkpoints" / "checkpoint_4.safetensors")
    assert checkpoint.metadata["config"]["learned_from"] == [recorded]

    moved = shutil.copytree(volume, tmp_path / "moved.zarr")
    before = files_below(run / "checkpoints")
    train(tiny_config(), moved, run, "cpu", "none")
    paths = {
        f"data__sources__0__{name}": str(moved / path) for name, path in (("raw", "em/raw"), ("labels", "labels/crop"))
    }
    train(tiny_config(**paths), tmp_path, run, "cpu", "none")
    shutil.move(moved / "labels" / "crop" / "dark", tmp_path / "dark")
    shutil.copytree(moved / "labels" / "crop" / "bright", moved / "labels" / "crop" / "dark")
    with pytest.raises(ConfigError, match=r"has learned from other labels of .*moved\.zarr/em/raw .*: their shape"):
        train(tiny_config(), moved, run, "cpu", "none")
    shutil.rmtree(moved / "labels" / "crop" / "dark")
    shutil.move(tmp_path / "dark", moved / "labels" / "crop" / "dark")
    write_array(shutil.rmtree(moved / "em" / "raw") or moved / "em" / "raw", 255 - tissue()[0], levels=3)
    with pytest.raises(ConfigError, match=r"has learned from .*raw .*, and the data now are .*: the voxels differ"):
        train(tiny_config(), moved, run, "cpu", "none")
    assert files_below(run / "checkpoints") == before


def test_a_prediction_is_compared_with_the_annotation_of_its_own_volume(volume, predicted, tmp_path):
    other = shutil.copytree(volume, tmp_path / "other.zarr")
    assert evaluate(tiny_config(), other, predicted) == evaluate(tiny_config(), volume, predicted)
    write_array(shutil.rmtree(other / "em" / "raw") or other / "em" / "raw", 255 - tissue()[0], levels=3)
    with pytest.raises(ConfigError, match=r"was predicted from .*/volume\.zarr/em/raw .*: the voxels differ"):
        evaluate(tiny_config(), other, predicted)
