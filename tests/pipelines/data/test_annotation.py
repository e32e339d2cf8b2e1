"""Counts of annotation against numpy, and what is said of them before a run begins."""

import json
import logging
import shutil

import numpy as np
import pytest

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.data import Dataset, Datasets, annotation, count_annotation
from scalenet_gp.pipelines.evaluation.evaluate_job import evaluate
from scalenet_gp.pipelines.prediction import predict
from scalenet_gp.pipelines.training.learned_from import describe_data
from scalenet_gp.pipelines.training.train_job import train
from tests.pipelines.conftest import CLASSES, CPU, CROPS, SHAPE, tiny_config, tissue, write_array

EVERYWHERE = Region(begin=[None] * 3, end=[None] * 3)


def dataset_of(volume, config=None):
    config = config or tiny_config()
    return Dataset.open(volume, config, config.build_network())


def datasets_of(volume, config):
    return Datasets.find(volume, config, config.build_network())


def counted_by_hand(roi_of_voxels):
    _, masks = tissue()
    known, present = {}, {}
    for name in CLASSES:
        annotated = np.zeros(SHAPE, bool)
        annotated[tuple(slice(*bounds) for bounds in CROPS[name])] = True
        known[name] = np.count_nonzero(annotated[roi_of_voxels])
        present[name] = np.count_nonzero((annotated & (masks[name] > 0))[roi_of_voxels])
    return known, present


def test_voxels_are_counted_as_by_hand(volume, monkeypatch):
    dataset = dataset_of(volume)
    whole = count_annotation(dataset, dataset.annotated(EVERYWHERE))
    box = (slice(4, 20), slice(8, 32), slice(6, 34))
    assert (dict(whole.known), dict(whole.present)) == counted_by_hand(box)
    assert whole.voxels == 16 * 24 * 28
    monkeypatch.setattr(annotation, "_EDGE", {3: 8})
    assert count_annotation(dataset, dataset.annotated(EVERYWHERE)) == whole


def test_of_a_large_part_some_is_counted_and_a_rare_class_is_looked_for(volume, monkeypatch):
    monkeypatch.setattr(annotation, "_EDGE", {3: 2})
    monkeypatch.setattr(annotation, "_BOXES", 7)
    counts = count_annotation(dataset_of(volume), dataset_of(volume).annotated(EVERYWHERE))
    assert counts.voxels == 7 * 8
    assert all(counts.known.values())


def without_annotation(volume, path, *names):
    """The volume with label volumes that say of every voxel that nothing is known there."""
    copy = shutil.copytree(volume, path)
    encoding = {"absent": 0, "present": 1, "unknown": 255}
    for name in names:
        folder = copy / "labels" / "crop" / name
        shutil.rmtree(folder)
        shape = [end - begin for begin, end in CROPS[name]]
        write_array(folder, np.full(shape, 255, np.uint8), [begin for begin, _ in CROPS[name]], labels=True)
        attributes = json.loads((folder / ".zattrs").read_text())
        kind = {"type": "semantic_segmentation", "encoding": encoding}
        attributes["cellmap"] = {"annotation": {"class_name": name, "annotation_type": kind}}
        (folder / ".zattrs").write_text(json.dumps(attributes))
    return copy


def test_classes_that_are_unknown_everywhere_are_refused(volume, tmp_path, caplog):
    copy = without_annotation(volume, tmp_path / "volume.zarr", *CLASSES)
    with pytest.raises(ConfigError, match=r"bright, dark: unknown in every voxel of the training region .* nm"):
        train(tiny_config(), copy, tmp_path / "run", "cpu", "none")
    assert not list((tmp_path / "run").glob("*.yaml"))
    one = without_annotation(volume, tmp_path / "one.zarr", "dark")
    with caplog.at_level(logging.WARNING):
        describe_data(datasets_of(one, tiny_config()))
    assert "dark is unknown in every voxel of the training region" in caplog.text


def test_what_is_learned_from_is_said_in_nm_and_voxels(volume, tmp_path, capsys):
    train(tiny_config(training__iterations=1), volume, tmp_path / "run", "cpu", "json")
    data = json.loads(capsys.readouterr().out.splitlines()[0])["data"][0]
    assert data["path"] == str(volume / "em" / "raw")
    assert data["region"] == {"begin": [18, 36, 27], "end": [90, 144, 99]}
    assert data["voxels"] == [16, 24, 16]
    known, present = counted_by_hand((slice(4, 20), slice(8, 32), slice(6, 22)))
    assert data["classes"]["dark"] == pytest.approx(
        {"annotated": known["dark"] / (16 * 24 * 16), "present": present["dark"] / known["dark"]}
    )


def test_less_than_one_sample_is_said(volume, caplog):
    config = tiny_config(training__region={"begin": [None, 40, None], "end": [None, 60, 99]})
    with caplog.at_level(logging.WARNING):
        (learned,) = describe_data(datasets_of(volume, config))
    assert "less than one sample of 36 × 36 × 36 nm (8 × 8 × 8 voxels); regions and sizes are in nm" in caplog.text
    assert "[18, 45, 27] to [90, 54, 99] nm, 16 × 2 × 16 voxels of 4.5 × 4.5 × 4.5 nm" in str(learned)


def test_a_prediction_of_a_region_in_voxels_is_said(volume, trained, tmp_path, caplog):
    checkpoint = trained / "checkpoints" / "checkpoint_4.safetensors"
    region = Region(begin=(0, 0, 0), end=(27, 36, 36))
    with caplog.at_level(logging.WARNING):
        predict(tiny_config(), volume, checkpoint, tmp_path / "p.zarr", region, workers=CPU)
    assert "the region [0, 0, 0] to [27, 36, 36] nm is 27 × 36 × 36 nm (6 × 8 × 8 voxels), less than one" in caplog.text


def test_labels_that_know_nothing_are_not_compared(volume, predicted, tmp_path):
    copy = without_annotation(volume, tmp_path / "volume.zarr", *CLASSES)
    with pytest.raises(DataError, match=r"every voxel of \[18, 36, 99\] to \[90, 144, 153\] nm is unknown"):
        evaluate(tiny_config(), copy, predicted)


@pytest.mark.parametrize(
    ("size", "hint"),
    [
        ([8, 8, 8], "; 8 × 8 × 8 voxels of '1_output' are 36 × 36 × 36 nm"),
        ([0.036, 0.072, 0.036], "; 0.036 × 0.072 × 0.036 µm are 36 × 72 × 36 nm"),
        ([7, 7, 7], ""),
    ],
)
def test_sizes_in_other_units_are_recognised(volume, size, hint):
    config = tiny_config(training__output_shape=size)
    with pytest.raises(ValueError, match=rf"(whole voxels of every output|would fit){hint}$"):
        dataset_of(volume, config).boxes(config.training.output_shape)
