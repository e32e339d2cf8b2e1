"""Crops of all voxel sizes of the challenge in one run: every one gives samples, and labels lie on their raw data."""

import json
from math import prod

import gunpowder as gp
import numpy as np
import pytest
from funlib.geometry import Coordinate

from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.pipelines.data import Datasets, survey
from scalenet_gp.pipelines.data.chain import sample_chain
from scalenet_gp.pipelines.data.weights import class_amounts, source_weights
from tests.pipelines.conftest import scalenet, tiny_config
from tests.pipelines.data.challenge_tree import VOXEL_SIZES, write_voxel_sizes

OUTPUTS = {"0_output": 32, "1_output": 8}


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """The folder and the places of the planes, nm."""
    folder = tmp_path_factory.mktemp("sizes")
    return folder, write_voxel_sizes(folder)


@pytest.fixture(scope="module")
def datasets(crops):
    subnets = [
        {"top_resolution": [size] * 3, "base_nc": 1, "downsample_factors": [[2, 2, 2]], "convs_per_level": 1}
        for size in OUTPUTS.values()
    ]
    config = tiny_config(
        data__sources=[{"challenge": "."}],
        data__classes=["beyond", "seen"],
        data__sampling={"by": "class"},
        network=scalenet(*subnets),
        augmentation=[],
        training__region=None,
        training__overhang=None,
        training__output_shape=[64] * 3,
        training__sampler=None,
        evaluation={},
        prediction__block_shape=[64] * 3,
    )
    return Datasets.find(crops[0], config, config.build_network())


def centres(dataset, batch, key, size):
    """The places of an array's voxels along z, nm: its ROI is that of the request, and the record says where it lay."""
    finest = batch[dataset.arrays.targets[dataset.finest]]
    drawn = json.loads(batch[key].attrs["location"])["begin"]
    roi = batch[key].spec.roi
    first = float(dataset.world.position_in_nm(Coordinate(drawn) + roi.begin - finest.spec.roi.begin)[0])
    return first + size * (np.arange(roi.shape[0] // size) + 0.5)


def test_every_crop_gives_samples_in_which_labels_and_raw_data_coincide(crops, datasets):
    survey(datasets).check()
    weights = source_weights(datasets)
    assert sorted(weights) == sorted(crops[1]) == sorted(f"crop{n + 1}" for n in range(len(VOXEL_SIZES)))
    plan = datasets.net.plan(datasets.boxes(datasets.config.training.output_shape))
    for source in datasets.sources:
        dataset = datasets.open(source)
        chain = sample_chain(datasets.config, dataset, sampler=weights[source.name].sampler)
        known, unknown, sides = dict.fromkeys(OUTPUTS, 0), False, set()
        with build_chain(chain) as pipeline:
            for seed in range(5):
                request = dict(dataset.arrays.request(plan).array_specs)
                batch = pipeline.request_batch(gp.BatchRequest(request, random_seed=seed))
                for name, size in OUTPUTS.items():
                    target, mask = batch[dataset.arrays.targets[name]], batch[dataset.arrays.masks[name]].data > 0
                    offset = centres(dataset, batch, dataset.arrays.targets[name], size) - float(crops[1][source.name])
                    # more than half of the voxel lies beyond the plane. Samples lie on the finest lattice, so a coarser
                    # voxel has the label of the one of its own lattice that holds its centre
                    clear = np.abs(offset) > (0 if name == "1_output" else size / 2)
                    expected = np.broadcast_to((offset > 0)[:, np.newaxis, np.newaxis], target.data[0].shape)
                    decided = mask[0] & clear[:, np.newaxis, np.newaxis]
                    np.testing.assert_array_equal(target.data[0][decided], expected[decided], source.name)
                    assert (target.data[1] == mask[1]).all()  # present wherever it is known
                    assert (mask[1] <= mask[0]).all()
                    unknown |= bool((mask[1] < mask[0]).any())
                    known[name] += mask.sum()
                    sides |= set(target.data[0][mask[0]].tolist())
                raw = batch[dataset.arrays.inputs["1_input"]]
                distance = centres(dataset, batch, dataset.arrays.inputs["1_input"], 8) - float(crops[1][source.name])
                seen = raw.data[0].mean(axis=(1, 2))
                assert (seen[distance > 16] > 0.4).all()
                assert (seen[distance < -16] < -0.4).all()
        assert min(known.values()) > 0, source.name
        assert unknown, source.name
        assert sides == {0, 1}, source.name


def test_the_amount_of_a_class_is_its_volume_to_the_voxels_at_its_faces(datasets):
    for source, voxel in zip(datasets.sources, VOXEL_SIZES, strict=True):
        amounts = class_amounts(datasets.open(source))
        size = [max(2, int(100 / float(length))) * float(length) for length in voxel]
        upper = (size[0] / 2 + 8 + float(voxel[0])) * prod(size[1:])
        # of the annotated box of whole coarse voxels
        lower = max(0, size[0] / 2 - 32) * prod(n - 32 for n in size[1:]) / 2
        assert lower <= amounts["beyond"] <= upper, source.name


def test_a_region_is_the_same_place_wherever_labels_lie(datasets):
    for source in datasets.sources:
        dataset = datasets.open(source)
        annotated = dataset.annotated(dataset.training_region)
        assert dataset.roi(dataset.region(annotated)) == annotated, source.name
        # whole voxels within the raw volume, whose corner is a place between two world units
        extent = dataset.extent()
        found = dataset.region(dataset.roi(extent))
        assert all(begin >= 0 for begin in found.begin), source.name
        assert all(end <= past for end, past in zip(found.end, extent.end, strict=True)), source.name
