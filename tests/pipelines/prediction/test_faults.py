"""Faults of a prediction are reported and leave nothing half done; the same call resumes."""

import io
import os
import re
import resource
import shutil
import signal

import numpy as np
import pytest

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.blockwise import UnfinishedBlocksError
from scalenet_gp.pipelines.prediction import Workers, predict
from scalenet_gp.pipelines.prediction.block_work import BlockWork
from scalenet_gp.pipelines.prediction.prediction import Prediction
from scalenet_gp.pipelines.process.locks import folder_lock
from scalenet_gp.pipelines.process.progress import console
from scalenet_gp.pipelines.process.signals import Interrupted
from scalenet_gp.volumes.storage import group_attributes, open_array
from tests.pipelines.conftest import CPU, files_below, options_with, resize_disk, tiny_config, write_array, write_volume
from tests.pipelines.prediction.predictions import BLOCKS, REGION, files, network, voxels

pytestmark = pytest.mark.usefixtures("warm_python")

CONFIG = tiny_config(prediction__block_shape=BLOCKS)
PARTIAL = "out.zarr.partial"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return network(tmp_path_factory.mktemp("network"), CONFIG)


@pytest.fixture(scope="module")
def whole(volume, checkpoint, tmp_path_factory):
    return predict(CONFIG, volume, checkpoint, tmp_path_factory.mktemp("whole") / "out.zarr", REGION, workers=CPU)


@pytest.fixture
def done(monkeypatch):
    """The blocks that are done, as they are."""
    rois, work = [], BlockWork.__call__

    def watched(self, roi):
        work(self, roi)
        rois.append(str(roi))

    monkeypatch.setattr(BlockWork, "__call__", watched)
    return rois


def test_a_truncated_chunk_costs_the_blocks_that_see_it(checkpoint, whole, done, tmp_path):
    volume = write_volume(tmp_path / "volume.zarr")
    chunk = volume / "em" / "raw" / "s0" / "0" / "4" / "4"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:40])
    output = tmp_path / "out.zarr"
    with pytest.raises(UnfinishedBlocksError, match=r"\d+ blocks could not .*cannot be read.*and \d+ more") as error:
        predict(CONFIG, volume, checkpoint, output, REGION, workers=CPU)
    failures = error.value.failures
    assert len(done) == 45 - len(failures)
    assert all(str(volume / "em" / "raw" / "s0") in failure.cause for failure in failures)
    assert "[0, 162, 108] to [18, 180, 126] nm" in [failure.place for failure in failures]
    assert str(tmp_path / PARTIAL) in str(error.value)
    assert not output.exists()

    chunk.write_bytes(content)
    first = set(done)
    done.clear()
    predict(CONFIG, volume, checkpoint, output, REGION, workers=CPU)
    assert len(done) == len(failures)
    assert not first & set(done)
    assert files(output) == files(whole)
    assert not (tmp_path / PARTIAL).exists()


def test_a_signal_ends_it_after_a_block(volume, checkpoint, whole, done, tmp_path, monkeypatch):
    work = BlockWork.__call__

    def signalled(self, roi):
        work(self, roi)
        if len(done) == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as context:
        context.setattr(BlockWork, "__call__", signalled)
        with pytest.raises(
            Interrupted, match=r"SIGTERM ended the run, which resumes from .*out\.zarr\.partial"
        ) as error:
            predict(CONFIG, volume, checkpoint, tmp_path / "out.zarr", REGION, workers=CPU)
    assert error.value.code == os.EX_TEMPFAIL
    assert len(done) == 7
    predict(CONFIG, volume, checkpoint, tmp_path / "out.zarr", REGION, workers=CPU)
    assert len(set(done)) == len(done) == 45
    assert files(tmp_path / "out.zarr") == files(whole)


def test_a_full_disk_ends_it_at_once(volume, checkpoint, whole, done, tmp_path, monkeypatch):
    limit, work = resource.getrlimit(resource.RLIMIT_FSIZE), BlockWork.__call__

    def filling(self, roi):
        if len(done) == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20, limit[1]))
        work(self, roi)

    try:
        with monkeypatch.context() as context:
            context.setattr(BlockWork, "__call__", filling)
            context.setattr(console, "_file", io.StringIO())  # that of pytest would be too large too
            with pytest.raises(UnfinishedBlocksError, match=r"out\.zarr/._output/s0.*File too large"):
                predict(CONFIG, volume, checkpoint, tmp_path / "out.zarr", REGION, workers=CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert len(done) == 5
    predict(CONFIG, volume, checkpoint, tmp_path / "out.zarr", REGION, workers=CPU)
    assert len(done) == 45
    assert files(tmp_path / "out.zarr") == files(whole)


@pytest.mark.slow
def test_workers_end_on_a_full_disk(volume, checkpoint, whole, small_disk, done):
    output = small_disk / "out.zarr"
    with pytest.raises(UnfinishedBlocksError, match="a worker cannot write, the disk may be full"):
        predict(
            CONFIG, volume, checkpoint, output, REGION, workers=Workers(count=1, devices=("cpu",), host="127.0.0.1")
        )
    resize_disk(small_disk, "10m")
    predict(CONFIG, volume, checkpoint, output, REGION, workers=CPU)
    assert 10 < len(done) < 40
    assert files(output) == files(whole)


def test_two_at_once_are_refused(volume, checkpoint, tmp_path):
    with folder_lock(tmp_path / PARTIAL, "being predicted"):
        before = files_below(tmp_path)
        with pytest.raises(BlockingIOError, match=r"out\.zarr\.partial is being predicted by pid"):
            predict(CONFIG, volume, checkpoint, tmp_path / "out.zarr", REGION, workers=CPU)
        assert files_below(tmp_path) == before


def test_an_output_that_appears_meanwhile_is_kept(volume, checkpoint, whole, done, tmp_path, monkeypatch):
    """A second process finishes the output between the first look and the lock."""
    output, opened = tmp_path / "out.zarr", Prediction.open

    def late(job):
        prediction = opened(job)
        shutil.copytree(whole, output)
        return prediction

    monkeypatch.setattr(Prediction, "open", late)
    with pytest.raises(FileExistsError, match=r"out\.zarr exists"):
        predict(CONFIG, volume, checkpoint, output, REGION, workers=CPU)
    assert done == []
    assert files(output) == files(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.parametrize("stored", ["float32", "uint8"])
def test_what_a_run_left_that_was_killed_as_it_finished_is_in_nobodys_way(
    volume, checkpoint, whole, done, tmp_path, monkeypatch, stored
):
    """Killed when the output had its name: nothing is done again. Once the output is gone, any run may begin there."""
    output = tmp_path / "out.zarr"

    class Killed(BaseException):
        pass

    def kill(path, **options):
        if path == tmp_path / PARTIAL:
            raise Killed

    with monkeypatch.context() as context:
        context.setattr(shutil, "rmtree", kill)
        with pytest.raises(Killed):
            predict(CONFIG, volume, checkpoint, output, REGION, workers=CPU)
    assert files(output) == files(whole)
    assert (tmp_path / PARTIAL / "job.json").exists()
    with pytest.raises(FileExistsError):
        predict(CONFIG, volume, checkpoint, output, REGION, workers=CPU)
    shutil.rmtree(output)
    predict(CONFIG, volume, checkpoint, output, REGION, options=options_with(CONFIG, stored=stored), workers=CPU)
    assert len(done) == 90
    assert (files(output) == files(whole)) == (stored == "float32")
    assert not (tmp_path / PARTIAL).exists()


@pytest.mark.usefixtures("python_interrupts")
def test_what_is_unfinished_goes_on_as_it_was_begun_or_not_at_all(volume, checkpoint, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(BlockWork, "__call__", lambda self, roi: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(Interrupted):
            predict(CONFIG, volume, checkpoint, tmp_path / "out.zarr", REGION, workers=CPU)
    other = shutil.copy(checkpoint, tmp_path / "other.safetensors")
    (tmp_path / "again").mkdir()
    newer = network(tmp_path / "again", CONFIG)
    for changes, told in (
        ({"stored": "uint8"}, 'prediction.stored: "float32" and "uint8"'),
        ({"outputs": ["0_output"]}, "outputs"),
        ({"block_shape": (36, 36, 36)}, "prediction.block_shape"),
    ):
        options = options_with(CONFIG, **changes)
        with pytest.raises(ValueError, match=told):
            predict(CONFIG, volume, checkpoint, tmp_path / "out.zarr", REGION, options=options, workers=CPU)
    # the file may have moved, as long as it is the same one
    assert newer.read_bytes() == other.read_bytes()
    predict(CONFIG, volume, other, tmp_path / "out.zarr", REGION, workers=CPU)


def test_too_little_memory_is_refused_with_what_it_takes(volume, checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"[0-9.]+ [KMG]iB"):
        predict(
            CONFIG,
            volume,
            checkpoint,
            tmp_path / "out" / "out.zarr",
            REGION,
            workers=Workers(count=0, devices=("cpu",), memory=2**12),
        )
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (
            {"devices": ("cpu", "cuda:77")},
            "--devices cpu,cuda:77: device 'cuda:77' was asked for by name and is not here",
        ),
        ({"devices": ("gpu",)}, "--devices gpu: 'gpu' is not a device; here are cpu"),
        (
            {"launcher": "no-such-launcher -n1"},
            "--launcher 'no-such-launcher -n1' begins with 'no-such-launcher', which is not",
        ),
    ],
)
def test_faults_that_all_workers_share_are_told_before_one_is_started(volume, checkpoint, tmp_path, workers, message):
    output = tmp_path / "out" / "out.zarr"
    with pytest.raises(ConfigError, match=re.escape(message)):
        predict(CONFIG, volume, checkpoint, output, REGION, workers=Workers(count=2, **workers))
    assert files_below(tmp_path) == []


def test_masked_blocks_are_zero_and_recorded(volume, checkpoint, whole, done, tmp_path):
    """The mask is half as fine, and has tissue in one corner of the region."""
    mask = np.zeros((12, 20, 20), np.uint8)
    mask[2, 17, 12] = 1  # voxels of 9 nm
    write_array(tmp_path / "mask", mask, voxel=9)
    there = write_array(tmp_path / "mask.zarr", mask, voxel=9)
    output = predict(
        CONFIG, volume, checkpoint, tmp_path / "out.zarr", REGION, options=options_with(CONFIG, mask=there), workers=CPU
    )
    skipped = open_array(output / "skipped")[:]
    assert group_attributes(output)["skipped_blocks"] == skipped.sum() == 45 - len(done)
    assert 0 < len(done) < 10
    for name, factor in (("0_output", 2), ("1_output", 1)):
        kept = ~skipped.astype(bool)
        for axis in range(3):
            kept = kept.repeat(4 // factor, axis)
        predicted, unmasked = voxels(output, name), voxels(whole, name)
        np.testing.assert_array_equal(predicted, np.where(kept, unmasked, 0))
