"""Coarser levels are the means of finer ones, whether they were made with the blocks or in boxes of their own."""

import os
import signal
from collections import Counter

import numpy as np
import pytest

from scalenet_gp.pipelines.blockwise import UnfinishedBlocksError
from scalenet_gp.pipelines.prediction import Workers, coarser_levels, predict
from scalenet_gp.pipelines.prediction.block_work import BlockWork
from scalenet_gp.pipelines.prediction.coarser_levels import LevelWork, levels_within_blocks
from scalenet_gp.pipelines.prediction.task import PredictionTask
from scalenet_gp.pipelines.process.signals import Interrupted
from scalenet_gp.volumes.multiscale_array_writer import MultiscaleArrayWriter
from scalenet_gp.volumes.storage import open_array
from tests.pipelines.conftest import CPU, options_with, tiny_config, tissue, write_array
from tests.pipelines.prediction.predictions import files, network

pytestmark = pytest.mark.usefixtures("warm_python")

LONG = (16, 16, 1200)
BLOCK = (72, 72, 144)  # two chunks of 16 voxels of one output, with which a level is made, and one of the other
BOXES = {1: 19, 2: 10, 3: 5, 4: 5}
"""The number of boxes of each level that is not made with the blocks."""
LEVELS = {"0_output": 4, "1_output": 5}


def check_means(output, levels):
    """Check that each level is the mean of the one before, whole blocks of voxels only."""
    for name, count in levels.items():
        layout = MultiscaleArrayWriter.open(output / name).layout
        assert layout.levels == count
        for level in range(1, count):
            fine = open_array(output / name / f"s{level - 1}")[:]
            coarse = open_array(output / name / f"s{level}")[:]
            factors = [n // m for n, m in zip(fine.shape, coarse.shape, strict=True)]
            cut = fine[tuple(slice(n * f) for n, f in zip(coarse.shape, factors, strict=True))]
            parts = cut.reshape([n for pair in zip(coarse.shape, factors, strict=True) for n in pair])
            np.testing.assert_allclose(coarse, parts.mean(axis=(1, 3, 5, 7)), rtol=1e-6)


def volume_of(folder, shape):
    raw, _ = tissue(shape)
    write_array(folder / "volume" / "em" / "raw", raw, levels=2)
    return folder / "volume"


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A volume, a checkpoint, and what is predicted of them in one go."""
    folder = tmp_path_factory.mktemp("long")
    config = tiny_config(prediction__block_shape=BLOCK)
    volume, checkpoint = volume_of(folder, LONG), network(folder, config)
    return (
        config,
        volume,
        checkpoint,
        predict(
            config, volume, checkpoint, folder / "out.zarr", "all", options=options_with(config, chunk=16), workers=CPU
        ),
    )


@pytest.mark.parametrize("block", [(72, 72, 576), (72, 72, 540)])
def test_levels_are_means(tmp_path, block):
    config = tiny_config(prediction__block_shape=block)
    volume = volume_of(tmp_path, (16, 16, 300))
    output = predict(config, volume, network(tmp_path, config), tmp_path / "out.zarr", "all", workers=CPU)
    check_means(output, {"0_output": 2, "1_output": 3})
    layout = MultiscaleArrayWriter.open(output / "1_output").layout
    assert levels_within_blocks(layout, (0, 0, block[2] // 4.5)) == 2


@pytest.fixture
def made(monkeypatch):
    """The boxes that are made, with their levels, as they are."""
    boxes, work = [], LevelWork.__call__

    def watched(self, roi):
        work(self, roi)
        boxes.append((self._level, str(roi)))

    monkeypatch.setattr(LevelWork, "__call__", watched)
    return boxes


def per_level(boxes):
    return Counter(level for level, _ in boxes)


def test_levels_go_on_where_they_ended(long, made, tmp_path, monkeypatch):
    """A box that fails is told, and the others of its level are made; a signal ends it after a box."""
    config, volume, checkpoint, whole = long
    output, work, computed = tmp_path / "out.zarr", LevelWork.__call__, []
    doomed = []
    arguments = (config, volume, checkpoint, output, "all")

    def failing(self, roi):
        if len(made) == 7 and not doomed:
            doomed.append(roi)
        if roi in doomed:
            raise OSError("no such luck")
        work(self, roi)

    with monkeypatch.context() as context:
        context.setattr(LevelWork, "__call__", failing)
        with pytest.raises(UnfinishedBlocksError, match="no such luck"):
            predict(*arguments, options=options_with(config, chunk=16), workers=CPU)
    assert per_level(made) == {1: BOXES[1] - 1}
    first = list(made)
    assert not output.exists()
    monkeypatch.setattr(BlockWork, "__call__", lambda self, roi: computed.append(roi))

    def signalled(self, roi):
        work(self, roi)
        if len(made) == BOXES[1] + 3:
            os.kill(os.getpid(), signal.SIGUSR1)

    with monkeypatch.context() as context:
        context.setattr(LevelWork, "__call__", signalled)
        with pytest.raises(Interrupted, match=r"SIGUSR1 ended the run, which resumes from .*out\.zarr\.partial"):
            predict(*arguments, options=options_with(config, chunk=16), workers=CPU)
    assert per_level(made) == {1: BOXES[1], 2: 3}
    predict(*arguments, options=options_with(config, chunk=16), workers=CPU)
    assert made[: len(first)] == first
    assert len(set(made)) == len(made)
    assert per_level(made) == BOXES
    assert computed == []
    assert files(output) == files(whole)


def test_no_level_is_made_of_blocks_that_are_missing(long, made, tmp_path, monkeypatch):
    config, volume, checkpoint, _ = long
    work = BlockWork.__call__

    def failing(self, roi):
        if roi.begin[2] == self._prediction.grid.roi.begin[2]:
            raise OSError("no such luck")
        work(self, roi)

    monkeypatch.setattr(BlockWork, "__call__", failing)
    with pytest.raises(UnfinishedBlocksError, match=r"1 block could not be done.*no such luck"):
        predict(
            config,
            volume,
            checkpoint,
            tmp_path / "out.zarr",
            "all",
            options=options_with(config, chunk=16),
            workers=CPU,
        )
    assert made == []


def test_levels_are_means_whatever_the_boxes(long):
    check_means(long[-1], LEVELS)


@pytest.mark.slow
def test_workers_make_the_same_levels(long, made, tmp_path):
    config, volume, checkpoint, whole = long
    log = tmp_path / "log"
    launcher = tmp_path / "launcher"
    launcher.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec "$@"\n')
    launcher.chmod(0o755)
    workers = Workers(count=2, devices=("cpu",), launcher=str(launcher), host="127.0.0.1")
    output = predict(
        config,
        volume,
        checkpoint,
        tmp_path / "out.zarr",
        "all",
        options=options_with(config, chunk=16),
        workers=workers,
    )
    assert files(output) == files(whole)
    assert {line.split("--stage ")[1] for line in log.read_text().splitlines() if "--stage level" in line} == {
        "level 1"
    }
    assert per_level(made) == {level: count for level, count in BOXES.items() if level > 1}  # by this process


@pytest.mark.parametrize(
    ("owner", "name", "ends"),
    [
        (coarser_levels, "coarsen", True),  # when the box is finished
        (PredictionTask, "create_or_resume", True),  # at once
        (PredictionTask, "finish", False),  # everything is done
    ],
    ids=["in a box", "at the beginning", "at the end"],
)
def test_a_signal_ends_a_run_in_good_order_wherever_it_is(long, tmp_path, monkeypatch, owner, name, ends):
    """The run is in this process; the test of a killed scheduler sends signals to a program of its own."""
    config, volume, checkpoint, whole = long
    output, original, went_on = tmp_path / "out.zarr", getattr(owner, name), []
    options = options_with(config, chunk=16)

    def signalled(*arguments):
        if not went_on:
            os.kill(os.getpid(), signal.SIGTERM)
        went_on.append(name)
        return original(*arguments)

    with monkeypatch.context() as context:
        context.setattr(owner, name, signalled)
        if ends:
            with pytest.raises(Interrupted, match="SIGTERM ended the run") as interrupted:
                predict(config, volume, checkpoint, output, "all", options=options, workers=CPU)
            assert interrupted.value.code == os.EX_TEMPFAIL
            assert len(went_on) == {"coarsen": 1, "create_or_resume": 0}[name]
            if went_on:  # the box counts as done
                assert open_array(output.with_name("out.zarr.partial") / "tracking" / "s1" / "done")[:].sum() == 1
        else:
            predict(config, volume, checkpoint, output, "all", options=options, workers=CPU)
    if ends:
        assert not output.exists()
        predict(config, volume, checkpoint, output, "all", options=options, workers=CPU)
    assert files(output) == files(whole)
    assert not output.with_name("out.zarr.partial").exists()
