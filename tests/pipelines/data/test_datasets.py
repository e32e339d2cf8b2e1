"""Samples of several sources, against those cut by hand; how often each is drawn; what a source may say."""

import json
import pickle

import gunpowder as gp
import numpy as np
import pytest
from funlib.geometry import Coordinate
from pydantic import ValidationError

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.nodes import Stack
from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.nodes.samplers import LazyRandomVolume
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.data.chain import training_chain
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.datasets import Datasets
from scalenet_gp.pipelines.data.weights import source_weights
from scalenet_gp.volumes import create_array
from tests.pipelines.conftest import CROPS, SHAPE, VOXEL, tiny_config, tissue, write_array
from tests.pipelines.data.many_sources import (
    CLASSES,
    CROP,
    FIRST,
    SOURCES,
    UNLABELLED,
    WINDOW,
    second_ids,
    second_raw,
    write_two,
)

EVERYWHERE = Region(begin=(None,) * 3, end=(None,) * 3)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return write_two(tmp_path_factory.mktemp("two"))


def config_of(**changes):
    given = {"data__sources": SOURCES, "data__classes": CLASSES, "augmentation": [], "training__overhang": None}
    return tiny_config(**{**given, "evaluation": {}, **changes})


def datasets_of(folder, **changes):
    config = config_of(**changes)
    return Datasets.find(folder, config, config.build_network())


def request_of(datasets, seed):
    plan = datasets.net.plan(datasets.boxes(datasets.config.training.output_shape))
    return gp.BatchRequest(dict(datasets.first.arrays.request(plan).array_specs), random_seed=seed)


def padded(array, begin, shape):
    """The box of an array, mirrored at its faces."""
    index = [np.arange(b, b + n) for b, n in zip(begin, shape, strict=True)]
    folded = [
        np.where(i % (2 * n) < n, i % (2 * n), 2 * n - 1 - i % (2 * n)) for i, n in zip(index, array.shape, strict=True)
    ]
    return array[np.ix_(*folded)]


def blocks(array, factor=2):
    """The voxels of an array in blocks: (z, y, x, voxels of a block)."""
    shape = [n for size in array.shape for n in (size // factor, factor)]
    return array.reshape(shape).transpose(0, 2, 4, 1, 3, 5).reshape(*(n // factor for n in array.shape), -1)


def whole(array, first, background=0):
    """An array of the volume's shape that holds ``array`` at ``first``."""
    made = np.full(SHAPE, background, array.dtype)
    made[tuple(slice(f, f + n) for f, n in zip(first, array.shape, strict=True))] = array
    return made


def truth():
    """Return, by volume, raw at 4.5 and 9 nm as the network sees it, and where each class is, and is known."""
    first, masks = tissue()
    fine = np.rint(blocks(second_raw()).mean(-1))
    raw = {"crop": (first / 255, first), "ids": (fine / 65535, fine)}
    levels = {}
    for name, (fractions, _) in raw.items():
        top = 65535 if name == "ids" else 255
        low, high = (value / top for value in (WINDOW if name == "ids" else (0, top)))
        coarse = np.rint(blocks(np.rint(fractions * top)).mean(-1)) / top
        levels[name] = {4.5: (fractions - low) / (high - low) * 2 - 1, 9.0: (coarse - low) / (high - low) * 2 - 1}
    boxes = {name: tuple(slice(*bounds) for bounds in CROPS[name]) for name in CROPS}
    known = {name: whole(np.ones_like(masks[name][box]), [b.start for b in box]) for name, box in boxes.items()}
    present = {name: masks[name] * known[name] for name in masks}
    ids = whole(second_ids(), [begin for begin, _ in CROP], UNLABELLED)
    classes = {
        "crop": (np.stack([present["bright"], present["dark"]]) > 0, np.stack([known["bright"], known["dark"]]) > 0),
        "ids": (np.stack([ids == 7, (ids == 3) | (ids == 4)]), np.stack([ids != UNLABELLED] * 2)),
    }
    return levels, classes


def test_batches_of_two_sources_equal_those_cut_by_hand(two):
    datasets = datasets_of(two)
    arrays = datasets.first.arrays
    levels, classes = truth()
    seen = set()
    with build_chain(training_chain(datasets) + Stack(12)) as pipeline:
        batch = pipeline.request_batch(request_of(datasets, 3))
    records = [json.loads(text) for text in batch[arrays.inputs["1_input"]].attrs["location"]]
    finest = batch[arrays.targets["1_output"]].spec.roi
    for number, record in enumerate(records):
        name = record["volume"]
        seen.add(name)
        dataset = datasets.open(datasets.named(name))
        corner = dataset.world.position(dataset.raw.levels[0].begin)
        for tensor, key in arrays.inputs.items():
            size = dataset.net.voxel_size[tensor]
            begin = batch[key].spec.roi.begin - finest.begin + Coordinate(record["begin"])
            if any(length % s for length, s in zip(begin - corner, size, strict=True)):
                continue  # resampled between voxels, as every test of the deformation checks
            first = [int(n) for n in (begin - corner) / size]
            data = batch[key].data[number, 0]
            expected = padded(levels[name][float(dataset.world.size_in_nm(size)[0])], first, data.shape)
            np.testing.assert_allclose(data, expected, rtol=0, atol=2e-6)
        first = [int(n) for n in (Coordinate(record["begin"]) - corner) / dataset.net.voxel_size["1_output"]]
        target, mask = (batch[keys["1_output"]].data[number] for keys in (arrays.targets, arrays.masks))
        box = (slice(None), *(slice(f, f + n) for f, n in zip(first, target.shape[1:], strict=True)))
        present, known = (array[box] for array in classes[name])
        np.testing.assert_array_equal(mask, known)
        np.testing.assert_array_equal(target, present & known)
    assert seen == {"crop", "ids"}


def test_the_second_volume_is_at_its_own_place(two):
    datasets = datasets_of(two)
    first, second = map(datasets.open, datasets.sources)
    assert first.world.unit == second.world.unit
    corners = [dataset.raw.levels[0].begin for dataset in (first, second)]
    assert [(b - a) / VOXEL for a, b in zip(*corners, strict=True)] == list(map(float, FIRST))
    assert [float(n) for n in second.region(second.labelled()).begin] == [VOXEL * b for b, _ in CROP]


def test_another_process_draws_the_same_and_gets_no_weights(two):
    datasets = datasets_of(two)
    chain = training_chain(datasets)
    assert isinstance(chain.output, LazyRandomVolume)
    again = pickle.loads(pickle.dumps(chain.output))
    request = request_of(datasets, 5)
    with build_chain(chain) as one, build_chain(gp.Pipeline(again)) as other:
        batches = [pipeline.request_batch(request.copy()) for pipeline in (one, other)]
    for key, array in batches[0].arrays.items():
        np.testing.assert_array_equal(array.data, batches[1][key].data)
    unpickled = pickle.loads(pickle.dumps(datasets))
    assert {parameter.device.type for parameter in unpickled.net.parameters()} == {"meta"}


def test_a_single_source_is_drawn_without_a_further_node(volume):
    config = tiny_config()
    chain = training_chain(Datasets.find(volume, config, config.build_network()))
    assert not isinstance(chain.output, LazyRandomVolume)


def amounts():
    """Voxels of each class in each source."""
    _, masks = tissue()
    ids = second_ids()
    counts = {name: int(masks[name][tuple(slice(*b) for b in CROPS[name])].sum()) for name in CROPS}
    return {"crop": counts, "ids": {"bright": int((ids == 7).sum()), "dark": int(((ids == 3) | (ids == 4)).sum())}}


@pytest.mark.parametrize(
    ("temperature", "shares"), [(0, None), (0.5, None), (1, None), (0.5, {"bright": 0.9, "dark": 0.1})]
)
def test_drawing_by_class_is_a_class_then_a_source_that_has_it(two, temperature, shares):
    sampling = {"by": "class", "temperature": temperature, "shares": shares}
    weights = source_weights(datasets_of(two, data__sampling=sampling, training__sampler=None))
    found, given = amounts(), {"crop": 1, "ids": 3}
    totals = shares or {name: sum(of[name] for of in found.values()) ** temperature for name in CLASSES}
    total = sum(entry.weight for entry in weights.values())
    for name in CLASSES:
        share = totals[name] / sum(totals.values())
        having = {source: given[source] * found[source][name] ** temperature for source in found}
        for source, entry in weights.items():
            drawn = entry.weight / total * entry.sampler.shares[name]
            assert drawn == pytest.approx(share * having[source] / sum(having.values()))


def test_drawing_by_volume_is_by_weight_and_size(two):
    assert {n: e.weight for n, e in source_weights(datasets_of(two)).items()} == {"crop": 1, "ids": 3}
    weights = source_weights(datasets_of(two, data__sampling={"temperature": 1}))
    sizes = [16 * 24 * 28, 12 * 22 * 24]
    assert weights["ids"].weight / weights["crop"].weight == pytest.approx(3 * sizes[1] / sizes[0])


def test_by_class_and_a_sampler_contradict_each_other(two):
    sampler = {"kind": "class", "shares": {"dark": 0.5}}
    with pytest.raises(ConfigError, match=r"data\.sampling is by class, and training\.sampler says"):
        source_weights(datasets_of(two, data__sampling={"by": "class"}, training__sampler=sampler))


def test_shares_of_classes_are_checked(two):
    for sampling, error in (
        ({"by": "volume", "shares": {"dark": 1}}, "they need by: class"),
        ({"by": "class", "shares": {"dark": 0.5}}, "shares sum to 0.5; they have to sum to 1"),
        ({"by": "class", "shares": {"dork": 1}}, "shares names dork, which is not a class; did you mean dark"),
    ):
        with pytest.raises(ValidationError, match=error):
            datasets_of(two, data__sampling=sampling, training__sampler=None)
    classes = {"bright": ["bright", 7], "gone": ["gone", 99]}
    sampling = {"by": "class", "shares": {"bright": 0.25, "gone": 0.75}}
    weights = source_weights(datasets_of(two, data__classes=classes, data__sampling=sampling, training__sampler=None))
    assert {name: entry.sampler.shares for name, entry in weights.items()} == {
        name: {"bright": 1} for name in ("crop", "ids")
    }
    only = {"by": "class", "shares": {"gone": 1}}
    with pytest.raises(ConfigError, match=r"data\.sampling\.shares are of gone, and .* there are voxels of bright"):
        source_weights(datasets_of(two, data__classes=classes, data__sampling=only, training__sampler=None))


def test_a_class_without_labels_in_one_source_is_unknown_there(two):
    classes = {"bright": ["bright", 7], "other": ["other", 9]}
    datasets = datasets_of(two, data__classes=classes)
    first, second = map(datasets.open, datasets.sources)
    assert first.class_volumes()["other"].volume is None
    assert second.class_volumes()["other"].volume is not None
    alone = datasets_of(two, data__classes=classes, data__sources=SOURCES[:1])
    with pytest.raises(FileNotFoundError, match=r"data\.sources\.0\.labels: class .other. has no labels .* dark"):
        alone.first.class_volumes()
    nothing = datasets_of(two, data__classes={"nothing": ["nothing", 7]})
    with pytest.raises(DataError, match=r"data\.sources\.0\.labels: .* has no labels of nothing"):
        nothing.first.class_volumes()


def test_shares_of_a_class_that_a_source_lacks_go_elsewhere(two):
    classes = {"bright": ["bright", 7], "other": ["other", 9]}
    sampler = {"kind": "class", "shares": {"other": 1}}
    datasets = datasets_of(two, data__classes=classes, training__sampler=sampler)
    arrays = datasets.first.arrays
    with build_chain(training_chain(datasets) + Stack(12)) as pipeline:
        batch = pipeline.request_batch(request_of(datasets, 0))
    records = [json.loads(text) for text in batch[arrays.inputs["1_input"]].attrs["location"]]
    assert {(record["volume"], record["class"]) for record in records} == {("crop", None), ("ids", "other")}


def test_instances_are_one_class_and_make_affinities(tmp_path):
    raw, masks = tissue()
    numbers = (np.arange(SHAPE[2]) // 4 + 1)[None, None] * masks["bright"].astype(np.uint16)
    write_array(tmp_path / "raw", raw, levels=2)
    numbers[4, 4:7] = UNLABELLED
    write_array(tmp_path / "cells", numbers, labels=True)
    source = {"raw": "raw", "labels": "cells", "encoding": "instances", "unlabelled": UNLABELLED}
    targets = {"0_*": {"kind": "classes"}, "1_*": {"kind": "affinities", "labels": "any", "offsets": [[0, 0, 1]]}}
    config = config_of(data__sources=[source], data__classes=["cell"], training__targets=targets)
    dataset = Dataset.open(tmp_path, config, config.build_network())
    present, known = dataset.class_volumes()["cell"].read(numbers)
    np.testing.assert_array_equal(present, (masks["bright"] > 0) & (numbers != UNLABELLED))
    np.testing.assert_array_equal(known, numbers != UNLABELLED)
    key, sure = dataset.arrays.targets["1_output"], dataset.arrays.masks["1_output"]
    with build_chain((*dataset.target_sources(),) + gp.MergeProvider() + dataset.target_nodes()[0]) as pipeline:
        roi = dataset.roi(Region(begin=(9, 9, 9), end=(36, 45, 54)))
        batch = pipeline.request_batch(gp.BatchRequest({k: gp.ArraySpec(roi=roi) for k in (key, sure)}))
    box = numbers[2:8, 2:10, 2:13]
    both = (box[..., :-1] != UNLABELLED) & (box[..., 1:] != UNLABELLED)
    np.testing.assert_array_equal(batch[sure].data[0], both)
    np.testing.assert_array_equal(batch[key].data[0], (box[..., :-1] == box[..., 1:]) & (box[..., :-1] > 0) & both)


def test_a_class_of_a_table_is_united_from_its_group(tmp_path):
    raw, masks = tissue()
    write_array(tmp_path / "raw", raw, levels=2)
    for name, values in (("mito_mem", masks["bright"]), ("mito_lum", masks["dark"]), ("er", masks["dark"])):
        write_array(tmp_path / "gt" / name, values, labels=True)
    (tmp_path / "classes.csv").write_text('mito,50,"3,4"\nmito_mem,3,\nmito_lum,4,\ner,5,\n')
    source = {"raw": "raw", "labels": "gt", "groups": "classes.csv"}
    config = config_of(data__sources=[source], data__classes=["mito", "er"])
    dataset = Dataset.open(tmp_path, config, config.build_network())
    assert dataset.groups == {"mito": ("mito_mem", "mito_lum"), "er": ("er",)}
    assert set(dataset.class_volumes()) == {"mito_mem", "mito_lum", "er"}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"raw": "b.zarr/nothing"}, FileNotFoundError, r"data\.sources\.1\.raw: .*b.zarr/nothing: no such"),
        ({"labels": "b.zarr/nothing"}, FileNotFoundError, r"data\.sources\.1\.labels: .*b.zarr/nothing: no such"),
        ({"select": {"t": 1}}, ValueError, r"data\.sources\.1\.raw: .* no axis t to select from"),
        ({"unlabelled": [7]}, ConfigError, r"data\.sources\.1\.unlabelled has 7, which data\.classes\.bright has too"),
    ],
)
def test_errors_name_the_field_of_the_source(two, changes, error, message):
    datasets = datasets_of(two, data__sources=[SOURCES[0], {**SOURCES[1], **changes}])
    with pytest.raises(error, match=message):
        datasets.open(datasets.sources[1]).labelled()


def test_a_config_of_several_sources_is_written_and_read(two, tmp_path):
    config = config_of()
    config.write(tmp_path / "config.yaml")
    assert Config.read(tmp_path / "config.yaml") == config


def test_files_without_metadata_have_the_voxel_size_of_their_source(tmp_path):
    raw, masks = tissue()
    for name, array in (("raw", raw), ("ids", np.where(masks["bright"] > 0, 7, 3).astype(np.uint8))):
        create_array(tmp_path / name, array.shape, (16,) * 3, array.dtype)[...] = array
    source = {"raw": "raw", "labels": "ids", "encoding": "ids"}
    unsaid = datasets_of(tmp_path, data__sources=[source])
    with pytest.raises(ValueError, match=r"data.sources.0.raw: .*no voxel size.*data.sources.0.voxel_size: \[40, 4,"):
        _ = unsaid.first
    dataset = datasets_of(tmp_path, data__sources=[source | {"voxel_size": [VOXEL] * 3}]).first
    assert dataset.raw.levels[0].voxel_size == (VOXEL,) * 3
    assert {volume.volume.levels[0].voxel_size for volume in dataset.class_volumes().values()} == {(VOXEL,) * 3}
