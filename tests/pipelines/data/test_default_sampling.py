"""Samples by default: half of them hold a voxel of a class that is drawn evenly."""

import shutil
from collections import Counter

import numpy as np

from scalenet_gp.nodes import UniformSampler
from scalenet_gp.nodes.samplers import voxel_index
from scalenet_gp.nodes.samplers.sampler import Axis
from scalenet_gp.pipelines.data import Dataset, build_sampler
from tests.nodes.samplers.test_samplers import assert_frequencies, draws
from tests.pipelines.conftest import CROPS, tiny_config, write_array, write_volume


def default_sampler(volume):
    config = tiny_config(training__sampler=None, training__overhang=None)
    return build_sampler(Dataset.open(volume, config, config.build_network()))


OPENING = (Axis(36, 9, 9, 0),) * 3


def test_half_of_the_samples_are_laid_on_the_classes_in_equal_parts(volume):
    found = Counter(place.info["class"] for place in draws(default_sampler(volume), 600, OPENING))
    assert_frequencies(found, {"bright": 0.25, "dark": 0.25, None: 0.5})


def test_the_part_of_an_absent_class_goes_elsewhere(tmp_path):
    volume = write_volume(tmp_path / "volume.zarr")
    shape = [end - begin for begin, end in CROPS["dark"]]
    first = [begin for begin, _ in CROPS["dark"]]
    shutil.rmtree(volume / "labels" / "crop" / "dark")
    write_array(volume / "labels" / "crop" / "dark", np.zeros(shape, np.uint8), first, labels=True)
    found = Counter(place.info["class"] for place in draws(default_sampler(volume), 400, OPENING))
    assert_frequencies(found, {"bright": 0.25, None: 0.75})


def test_labels_that_are_too_large_to_search_are_said(volume, monkeypatch, caplog):
    monkeypatch.setattr(voxel_index, "_MOST_VOXELS", 10)
    assert isinstance(default_sampler(volume), UniformSampler)
    assert [record.message for record in caplog.records if "samples lie anywhere in the annotation" in record.message]
