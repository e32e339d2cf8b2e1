"""Raw data of any type of numbers reach the network as plain numpy scales them, wherever they are read."""

from __future__ import annotations

import json
import logging

import gunpowder as gp
import numpy as np
import pytest
import torch
import yaml
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.nodes.chains.building import build_chain
from scalenet_gp.pipelines.data import Dataset, Datasets, learned_volumes, network_inputs, record_volumes
from scalenet_gp.pipelines.inspection import draw_samples
from scalenet_gp.pipelines.prediction import predict
from scalenet_gp.pipelines.runs import RunFolder
from scalenet_gp.pipelines.training.train_job import train
from scalenet_gp.training import latest_checkpoint, load_checkpoint
from tests.pipelines.conftest import CPU, SHAPE, tiny_config, tissue, write_array, write_volume
from tests.pipelines.data.test_sample_chain import samples

TYPED = {
    "int16 about zero": lambda raw: (raw.astype(np.int16) - 128) * 20,
    "int8": lambda raw: (raw.astype(np.int16) - 128).astype(np.int8),
    "narrow uint16": lambda raw: raw.astype(np.uint16) + 1000,
    "float32 to 255": lambda raw: raw.astype(np.float32),
    "float64": lambda raw: 1e6 + raw / 1000,
}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return write_volume(tmp_path_factory.mktemp("labels") / "volume.zarr")


def typed_volume(path, labelled, data):
    """The volume of all tests with other raw data."""
    write_array(path / "em" / "raw", data, levels=3)
    (path / "labels").symlink_to(labelled / "labels")
    return path


def recorded(volume, config):
    """The config with the volumes as a run records them."""
    volumes = record_volumes(Datasets.find(volume, config, config.build_network()))
    return config.model_copy(update={"learned_from": volumes})


def window_of(data):
    low, high = np.percentile(data.astype(float), (0.5, 99.5))
    return (np.floor(low), np.ceil(high)) if data.dtype.kind in "iu" else (low, high)


def plainly_scaled(data, low, high):
    return 2 * (data.astype(float) - low) / (high - low) - 1


def everywhere(dataset, chain, key):
    """The fine array over all of the volume."""
    size = dataset.net.voxel_size["1_input"]
    roi = Roi(dataset.world.position(dataset.raw.levels[0].begin), size * Coordinate(SHAPE))
    with build_chain(chain) as pipeline:
        return pipeline.request_batch(gp.BatchRequest({key: gp.ArraySpec(roi=roi)}))[key].data[0]


@pytest.mark.parametrize("kind", TYPED)
def test_the_network_sees_the_same_in_training_validation_pictures_and_prediction(kind, labelled, tmp_path):
    data = TYPED[kind](tissue()[0])
    volume = typed_volume(tmp_path / "volume.zarr", labelled, data)
    automatic = tiny_config(data__intensities="auto", augmentation=[])
    config = recorded(volume, automatic)
    low, high = config.learned_from[0].intensities
    assert (low, high) == pytest.approx(window_of(data), rel=1e-5)
    expected = np.clip(plainly_scaled(data, low, high), -2, 2)

    dataset = Dataset.open(volume, config, config.build_network())
    key = dataset.arrays.inputs["1_input"]
    seen = dataset.inputs.see({"1_input": key})
    whole = everywhere(dataset, seen.scaled(seen.fractions(of_type=True)), key)
    np.testing.assert_allclose(whole, expected, atol=2e-5)  # validation, pictures
    stored = everywhere(dataset, seen.stored(), key)
    shown = dataset.inputs.intensities.apply(torch.from_numpy(stored)).numpy()
    np.testing.assert_array_equal(shown, whole)  # prediction

    drawn = samples(config, volume, 1)["RAW_1_INPUT"]
    begin = np.array(json.loads(drawn.attrs["location"][0])["begin"]) // 9 - (drawn.data.shape[-1] - 8) // 2
    index = [np.arange(b, b + n) for b, n in zip(begin, drawn.data.shape[2:], strict=True)]
    mirrored = [np.where(i < 0, -1 - i, np.where(i >= n, 2 * n - 1 - i, i)) for i, n in zip(index, SHAPE, strict=True)]
    np.testing.assert_allclose(drawn.data[0, 0], whole[np.ix_(*mirrored)], atol=2e-6)  # training


def test_a_run_keeps_the_window_that_it_began_with(labelled, tmp_path, monkeypatch):
    data = TYPED["int16 about zero"](tissue()[0])
    volume, run = typed_volume(tmp_path / "volume.zarr", labelled, data), tmp_path / "run"
    config = tiny_config(data__intensities="auto", training__iterations=1)
    train(config, volume, run, "cpu", "none")
    kept = list(window_of(data))
    assert yaml.safe_load((run / "config.yaml").read_text())["learned_from"][0]["intensities"] == kept
    checkpoint = latest_checkpoint(RunFolder(run).checkpoints)
    assert load_checkpoint(checkpoint).metadata["config"]["learned_from"][0]["intensities"] == kept
    # from there on nothing is sampled of this volume, wherever it lies
    monkeypatch.setattr(learned_volumes, "sample_raw", lambda *_: pytest.fail("it was sampled again"))
    monkeypatch.setattr(network_inputs, "sample_raw", lambda *_: pytest.fail("it was sampled again"))
    moved = typed_volume(tmp_path / "moved.zarr", labelled, data)
    made = predict(config, moved, checkpoint, tmp_path / "p.zarr", workers=CPU)
    attributes = json.loads((made / ".zattrs").read_text())
    assert attributes["job"]["config"]["learned_from"][0]["intensities"] == kept
    assert train(config, moved, run, "cpu", "none") == checkpoint
    brighter = typed_volume(tmp_path / "brighter.zarr", labelled, data + 150)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="the voxels differ"):
        train(config, brighter, run, "cpu", "none")


def test_each_source_may_have_a_window_of_its_own(labelled, tmp_path):
    raw = tissue()[0]
    for name, data in (("a", raw), ("b", raw.astype(np.int16) * 3 - 300)):
        typed_volume(tmp_path / name, labelled, data)
    sources = [
        {"raw": "a/em/raw", "labels": "a/labels/crop", "use": "train", "intensities": [40, 220]},
        {"raw": "b/em/raw", "labels": "b/labels/crop", "use": "train", "intensities": "auto"},
        {"raw": "b/em/raw", "labels": "b/labels/crop", "use": "evaluate", "intensities": "auto"},
    ]
    config = recorded(tmp_path, tiny_config(data__sources=sources, training__region=None, evaluation__region=None))
    assert [one.intensities for one in config.learned_from] == [None, window_of(raw.astype(np.int16) * 3 - 300)]
    datasets = Datasets.find(tmp_path, config, config.build_network())
    windows = [datasets.open(source).inputs.intensities for source in datasets.sources]
    assert [(window.low, window.high) for window in windows[:2]] == [(40, 220), config.learned_from[1].intensities]
    assert windows[2] == windows[1]


def test_floats_beyond_one_are_refused_unless_a_window_is_given(labelled, tmp_path):
    data = 60 + tissue()[0].astype(np.float32) / 255 * 139
    volume = typed_volume(tmp_path / "volume.zarr", labelled, data)
    config = tiny_config()
    for job in (
        lambda: train(config, volume, tmp_path / "run", "cpu", "none"),
        lambda: draw_samples(config, volume),
    ):
        with pytest.raises(
            ConfigError, match=r"float32 with values of .*0 to 1 .* 100% lie outside; .*intensities: auto"
        ):
            job()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "window", "message"),
    [
        (np.uint8, [0.2, 0.8], r"100% lie outside; \[0.2, 0.8\] look like fractions: write `intensities: auto`"),
        (np.uint8, [300, 400], r"uint8 with values of .* 300 to 400 .* 100% lie outside"),
    ],
)
def test_a_window_beside_all_values_is_refused(labelled, tmp_path, data, window, message):
    volume = typed_volume(tmp_path / "volume.zarr", labelled, tissue()[0].astype(data))
    config = tiny_config(data__intensities=window)
    with pytest.raises(ConfigError, match=message):
        recorded(volume, config)


def test_a_window_of_which_tissue_fills_little_is_said(labelled, tmp_path, caplog):
    volume = typed_volume(tmp_path / "volume.zarr", labelled, TYPED["narrow uint16"](tissue()[0]))
    config = tiny_config()
    with caplog.at_level(logging.WARNING):
        recorded(volume, config)
    assert "they fill 0.3% of it; write `intensities: auto`" in caplog.text


def test_a_volume_of_one_value_has_no_window(labelled, tmp_path):
    volume = typed_volume(tmp_path / "volume.zarr", labelled, np.full(SHAPE, 7, np.int16))
    config = tiny_config(data__intensities="auto")
    with pytest.raises(DataError, match="every sampled value is 7"):
        recorded(volume, config)


@pytest.mark.parametrize("window", ["full", [1], [2, 1], [1, "a"], [0, float("inf")], 3])
def test_intensities_are_two_values_or_a_word(window):
    with pytest.raises(ValueError, match=r"intensities"):
        tiny_config(data__intensities=window)
