"""A prediction goes on with the networks that it was begun with, whatever becomes of their files."""

import shutil

import numpy as np
import pytest
import torch

from scalenet_gp.pipelines.blockwise import UnfinishedBlocksError
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.prediction import Workers, predict
from scalenet_gp.pipelines.prediction.block_work import BlockWork
from scalenet_gp.training.checkpoint import save_checkpoint
from scalenet_gp.volumes.storage import group_attributes
from tests.pipelines.conftest import CPU, options_with, tiny_config
from tests.pipelines.prediction.predictions import BLOCKS, REGION, network, voxels

CONFIG = tiny_config(prediction__block_shape=BLOCKS)


def another(folder):
    torch.manual_seed(7)
    return save_checkpoint(folder, CONFIG.build_network(), {"iteration": 1})


def test_a_file_that_training_replaces_is_kept(volume, tmp_path, monkeypatch, caplog):
    best = network(tmp_path / "first", CONFIG)
    expected = predict(CONFIG, volume, best, tmp_path / "expected.zarr", REGION, workers=CPU)
    work, done = BlockWork.__call__, []

    def once(self, roi):
        if done:
            raise ValueError("not now")
        work(self, roi)
        done.append(roi)

    output = tmp_path / "out.zarr"
    with monkeypatch.context() as context:
        context.setattr(BlockWork, "__call__", once)
        with pytest.raises(UnfinishedBlocksError, match="not now"):
            predict(CONFIG, volume, best, output, REGION, workers=CPU)
    shutil.copyfile(another(tmp_path / "second"), best)
    assert predict(CONFIG, volume, best, output, REGION, workers=CPU) == output
    assert f"{best} has changed" in caplog.text
    for name in ("0_output", "1_output"):
        np.testing.assert_array_equal(voxels(output, name), voxels(expected, name))
    kept, meant = (group_attributes(path)["job"]["networks"] for path in (output, expected))
    assert kept == meant


def test_outputs_that_are_not_made_do_not_shrink_the_region(volume, tmp_path):
    """The region is not a whole number of the coarse voxels, of 9 nm."""
    checkpoint, region = network(tmp_path, CONFIG), Region(begin=(0, 0, 0), end=("40.5", 90, 99))
    made = {
        name: predict(
            CONFIG,
            volume,
            checkpoint,
            tmp_path / name,
            region,
            options=options_with(CONFIG, outputs=outputs, block_shape=(36, 90, 108)),
            workers=CPU,
        )
        for name, outputs in (("both", []), ("fine", ["1_output"]))
    }
    shapes = [voxels(output, "1_output").shape[1:] for output in made.values()]
    assert shapes == [(8, 20, 22), (9, 20, 22)]


def test_a_variance_is_not_stored_as_fractions_of_255(volume, tmp_path):
    checkpoint = network(tmp_path, CONFIG)
    output = predict(
        CONFIG,
        volume,
        checkpoint,
        tmp_path / "out.zarr",
        REGION,
        options=options_with(
            CONFIG,
            block_shape=(54, 90, 54),
            outputs=["1_output"],
            symmetries="mirrors",
            products=["mean", "variance"],
            stored="uint8",
        ),
        workers=CPU,
    )
    variance = voxels(output, "1_output_variance")
    assert voxels(output, "1_output").dtype == np.uint8
    assert variance.dtype == np.float32
    assert 0 < variance.max() < 0.25


def test_without_workers_what_is_for_them_is_refused():
    for options in ({"launcher": "srun"}, {"host": "10.0.0.1"}, {"devices": ("cuda:0", "cuda:1")}):
        with pytest.raises(ValueError, match="are for workers, and their count is 0"):
            Workers(**options)
