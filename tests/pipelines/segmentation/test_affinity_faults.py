"""Objects of affinities under load and faults: workers, killed processes and full disks change no byte."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scalenet_gp.pipelines.blockwise import UnfinishedBlocksError
from scalenet_gp.pipelines.segmentation import objects_path, segment
from tests.pipelines.conftest import VOXEL, files_below, resize_disk, tiny_config, write_config
from tests.pipelines.segmentation.test_affinity_objects import TARGETS, blocks_of, noisy, write_affinities

OBJECTS = {
    "merged": {"kind": "agglomerate", "reach": 2 * VOXEL, "thresholds": [0.1, 0.5]},
    "parted": {"kind": "mutex", "context": 3 * VOXEL},
}
CHANGES = {"training__targets": TARGETS, "segmentation": {"classes": {}, "objects": OBJECTS}}
BLOCKS = blocks_of(14.3, "mutex")
"""This process: eight blocks of ``parted``, and a few of ``merged``."""


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    return write_affinities(tmp_path_factory.mktemp("predicted") / "prediction.zarr", noisy()[1])


@pytest.fixture(scope="module")
def whole(predicted, tmp_path_factory):
    """The bytes of both methods' objects, as this process makes them without a fault."""
    folder = tmp_path_factory.mktemp("whole")
    return stored(segment(tiny_config(**CHANGES), predicted, folder / "out.zarr", workers=BLOCKS))


def stored(output):
    """The bytes of a segmentation and of its table, without the attributes, which tell where it is."""
    paths = [output / name for name in files_below(output) if name != ".zattrs"]
    files = {str(path.relative_to(output)): path.read_bytes() for path in paths if path.is_file()}
    return files | {"table": objects_path(output).read_bytes()}


def test_a_disk_that_is_full_again_and_again_is_named_and_costs_nothing_that_was_done(predicted, whole, small_disk):
    """The disk grows by a little each time, so that it is full at another file."""
    told, output = [], small_disk / "out.zarr"
    for size in range(8, 1000, 36):
        resize_disk(small_disk, f"{size}k")
        try:
            segment(tiny_config(**CHANGES), predicted, output, workers=BLOCKS)
            break
        except OSError as error:
            told.append((type(error), str(error), output.exists()))
    assert stored(output) == whole
    assert sorted(path.name for path in small_disk.iterdir()) == ["out.csv", "out.zarr"]
    kinds, messages, finished = zip(*told, strict=True)
    assert set(kinds) == {OSError, UnfinishedBlocksError}
    assert not any(finished)
    for message in messages:
        assert str(small_disk) in message
        assert "No space left on device" in message or "disk is full" in message
    for name in ("/tracking/merged/fragments", ".npy", "graph.sqlite", "/s0: voxels"):
        assert any(name in message for message in messages), name


def workers_of(output):
    """The ids of the worker processes of a segmentation."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode()
        except OSError:  # it has ended
            continue
        if "scalenet_gp.pipelines.segmentation.worker" in command and str(output) in command:
            yield int(process.name)


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_workers_and_runs_that_are_killed_at_random_leave_the_bytes_of_one_process(predicted, whole, tmp_path):
    config, output = write_config(tmp_path / "run.yaml", **CHANGES), tmp_path / "out.zarr"
    command = [sys.executable, "-m", "scalenet_gp.pipelines.cli", "segment", config, "--prediction", predicted]
    command += ["--output", output, "--workers", 2, "--memory", BLOCKS.memory / 2**30]
    draw, killed, runs = random.Random(0), {"worker": 0, "run": 0}, 0
    while not output.exists() and runs < 20:
        runs += 1
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while process.poll() is None:
            time.sleep(draw.uniform(0, 0.05))
            found = list(workers_of(output))
            if not found or killed["worker"] == 4:
                continue
            chosen = "run" if killed["worker"] == 2 and killed["run"] == 0 else "worker"
            process.kill() if chosen == "run" else os.kill(draw.choice(found), signal.SIGKILL)
            killed[chosen] += 1
        told = process.communicate()[0]
    assert killed == {"worker": 4, "run": 1}, told
    assert runs == 2, told
    assert stored(output) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.zarr", "run.yaml"]
