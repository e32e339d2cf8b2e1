"""The chain that draws training samples: where they lie, what is varied, and that they come again."""

from __future__ import annotations

import json
import shutil

import gunpowder as gp
import numpy as np
import pytest
from funlib.geometry import Coordinate

from scalenet_gp.errors import ConfigError
from scalenet_gp.nodes import Stack, count_draws
from scalenet_gp.nodes.chains.building import build_chain
from scalenet_gp.pipelines.data import Dataset, build_sampler, sample_chain
from scalenet_gp.pipelines.training.train_job import train
from tests.pipelines.conftest import SHAPE, TINY, VOXEL, tiny_config, tissue, write_array
from tests.pipelines.training.test_train import assert_equal

DEFORM, INTENSITY, NOISE = TINY["augmentation"]
EVERYTHING = {
    "augmentation": [
        {**DEFORM, "transpose_axes": [1, 2], "scale_interval": [[1, 1], [0.9, 1.1], [0.9, 1.1]]},
        {"kind": "misaligned_sections", "thickness": 9, "slip": 0.3, "shift": 0.1, "sigma": 9},
        {"kind": "low_contrast_sections", "thickness": 9, "probability": 0.3, "factor": [0.1, 0.5]},
        {"kind": "missing_sections", "thickness": 9, "probability": 0.3},
        {"kind": "blur", "sigma": [0, 4]},
        {**INTENSITY, "gamma": [0.8, 1.25]},
        NOISE,
    ]
}
RECORDS = {
    "location",
    "deformation",
    "misaligned_sections",
    "low_contrast_sections",
    "missing_sections",
    "blur",
    "intensity",
    "noise",
}


def samples(config, volume, count, replay=None, shape=(36, 36, 36)):
    """``count`` samples of one batch: every array by the name of its key."""
    net = config.build_network()
    dataset = Dataset.open(volume, config, net)
    plan = net.plan({name: gp.Roi((0, 0, 0), dataset.world.size(shape)) for name in net.output_keys})
    request = gp.BatchRequest(dict(dataset.arrays.request(plan).array_specs), random_seed=7)
    with build_chain(sample_chain(config, dataset, replay) + Stack(count)) as pipeline:
        batch = pipeline.request_batch(request)
    return {str(key): array for key, array in batch.arrays.items()}


def test_all_that_can_be_varied_is_on_record_and_comes_again(volume):
    config = tiny_config(**EVERYTHING)
    drawn = samples(config, volume, 1)
    attrs = drawn["RAW_1_INPUT"].attrs
    assert set(attrs) == RECORDS
    replayed = samples(config, volume, 1, {name: records[0] for name, records in attrs.items()})
    for key, array in drawn.items():
        np.testing.assert_array_equal(array.data, replayed[key].data)
    again = samples(config, volume, 1)["RAW_1_INPUT"]
    assert again.attrs == attrs


def test_each_augmentation_of_the_list_is_a_node(volume):
    drawn = samples(tiny_config(augmentation=[DEFORM, INTENSITY]), volume, 1)
    assert set(drawn["RAW_1_INPUT"].attrs) == {"location", "deformation", "intensity"}
    drawn = samples(tiny_config(augmentation=[DEFORM]), volume, 1)
    assert set(drawn["RAW_1_INPUT"].attrs) == {"location", "deformation"}
    plain = samples(tiny_config(augmentation=[]), volume, 1)
    assert set(plain["RAW_1_INPUT"].attrs) == {"location", "deformation"}


def test_without_augmentation_samples_are_the_volume_itself(volume):
    raw, _ = tissue()
    config = tiny_config(augmentation=[], data__intensities=[0, 255])
    array = samples(config, volume, 5)["RAW_1_INPUT"]
    for drawn, text in zip(array.data, array.attrs["location"], strict=True):
        record = json.loads(text)
        # the plan's input is wider than the target, whose begin is on record, by the same number of voxels at all sides
        margin = (drawn.shape[-1] - 8) // 2
        # world units are half nanometres, and the world's origin is the volume's corner
        begin = np.array(record["begin"]) // 9 - margin
        index = [np.arange(b, b + n) for b, n in zip(begin, drawn.shape[1:], strict=True)]
        mirrored = [
            np.where(i < 0, -1 - i, np.where(i >= n, 2 * n - 1 - i, i)) for i, n in zip(index, SHAPE, strict=True)
        ]
        np.testing.assert_allclose(drawn[0], raw[np.ix_(*mirrored)] / 255 * 2 - 1, rtol=0, atol=1e-6)


def test_classes_get_their_share_of_the_samples(volume):
    config = tiny_config(training__sampler={"kind": "class", "shares": {"dark": 0.5}}, augmentation=[])
    drawn = samples(config, volume, 60)
    laid = count_draws(drawn["TARGET_1_OUTPUT"].attrs["location"], "class")
    assert 15 < laid["dark"] < 45
    for target, record in zip(drawn["TARGET_1_OUTPUT"].data, drawn["TARGET_1_OUTPUT"].attrs["location"], strict=True):
        assert json.loads(record)["class"] is None or target[1].any()


def test_samples_laid_on_classes_stay_in_the_region(volume):
    config = tiny_config(
        training__sampler={"kind": "class", "shares": {"dark": 0.5, "bright": 0.5}},
        training__overhang=None,
        augmentation=[],
    )
    drawn = samples(config, volume, 30)
    assert drawn["MASK_1_OUTPUT"].data[:, 0].all()  # bright is annotated in all of the region
    for record in drawn["MASK_1_OUTPUT"].attrs["location"]:
        begin = np.array(json.loads(record)["begin"]) / 2  # half nanometres
        assert (begin >= [18, 36, 27]).all()
        assert (begin <= [90 - 36, 144 - 36, 99 - 36]).all()


def test_strata_are_drawn_by_weight_and_stay_in_their_regions(volume):
    regions = {"left": [[18, 36, 27], [90, 144, 63]], "right": [[18, 36, 63], [90, 144, 99]]}
    strata = {
        name: {"weight": weight, "regions": [dict(zip(("begin", "end"), regions[name], strict=True))]}
        for name, weight in (("left", 3), ("right", 1))
    }
    config = tiny_config(
        training__sampler={"kind": "stratified", "strata": strata}, training__overhang=None, augmentation=[]
    )
    records = [json.loads(text) for text in samples(config, volume, 60)["MASK_1_OUTPUT"].attrs["location"]]
    counts = count_draws(map(json.dumps, records), "stratum")
    assert counts["left"] + counts["right"] == 60
    assert 33 < counts["left"] < 56
    for record in records:
        begin = record["begin"][2] / 2  # half nanometres
        low, high = regions[record["stratum"]][0][2], regions[record["stratum"]][1][2]
        assert low <= begin <= high - 36


@pytest.fixture(scope="module")
def mapped(volume, tmp_path_factory):
    """The volume with a map of strata, 1 in the left half along x and 2 in the right, and a class without a voxel."""
    folder = tmp_path_factory.mktemp("mapped") / "volume.zarr"
    shutil.copytree(volume, folder)
    strata = np.ones(SHAPE, np.uint8)
    strata[..., 14:] = 2
    write_array(folder / "masks" / "strata", strata, labels=True)
    write_array(folder / "labels" / "crop" / "none", np.zeros_like(strata)[4:20], (4, 0, 0), labels=True)
    (folder / "sites.csv").write_text("z,y,x\n45,45,50\n50,60,70\n1e6,0,0\n")
    return folder


def test_a_united_class_is_sampled_as_one_also_if_a_member_is_absent(mapped):
    classes = {"any": ["none", "dark", "bright"], "dark": "dark"}
    for share, members in (("any", ("dark", "bright")), ("dark", ("dark",))):
        config = tiny_config(
            data__classes=classes, training__sampler={"kind": "class", "shares": {share: 1}}, augmentation=[]
        )
        records = [json.loads(text) for text in samples(config, mapped, 12)["RAW_1_INPUT"].attrs["location"]]
        assert {record["class"] for record in records} == {share}
        values = [tissue()[1][name] for name in members]
        voxels = [tuple(np.array(record["voxel"]) // 9) for record in records]  # world units are half nanometres
        assert all(any(value[voxel] for value in values) for voxel in voxels)
        assert all(any(value[voxel] for voxel in voxels) for value in values)


def test_a_map_of_strata_is_sampled_by_weight(mapped):
    strata = {"left": {"value": 1, "weight": 3}, "right": {"value": 2, "weight": 1}}
    sampler = {"kind": "map", "map": "masks/strata", "strata": strata}
    within = {"begin": [None, 90, None], "end": [None] * 3}
    for options in (sampler, {**sampler, "voxel_size": [9] * 3, "within": within}):
        config = tiny_config(training__sampler=options, training__overhang=None, augmentation=[])
        texts = samples(config, mapped, 24)["MASK_1_OUTPUT"].attrs["location"]
        counts = count_draws(texts, "stratum")
        assert counts["left"] + counts["right"] == 24
        assert 11 < counts["left"] < 24
        for record in map(json.loads, texts):
            assert (record["voxel"][2] // 9 < 14) == (record["stratum"] == "left")
            assert options is sampler or record["voxel"][1] >= 180  # half nanometres


def test_points_of_a_file_are_sampled(mapped):
    sampler = {"kind": "points", "points": "sites.csv", "balance_radius": 3}
    config = tiny_config(training__sampler=sampler, training__overhang=None, augmentation=[])
    mask = samples(config, mapped, 8)["MASK_1_OUTPUT"]
    records = [json.loads(text) for text in mask.attrs["location"]]
    assert {record["point"] for record in records} == {0, 1}
    for record in records:
        place = 2 * np.array([(45, 45, 50), (50, 60, 70)][record["point"]])  # world units are half nanometres
        assert (record["begin"] <= place).all()
        assert (place < np.array(record["begin"]) + mask.spec.roi.shape).all()
    for changes, message in (
        ({"points": "no.csv"}, r"training\.sampler\.points: .*no\.csv"),
        ({"columns": ["y", "x"]}, r"training\.sampler\.columns names 2 columns; the volume has 3 axes"),
        ({"columns": ["z", "y", "q"]}, "has no column q"),
        ({"within": {"begin": [None, None, 81], "end": [None] * 3}}, "no point of 3 within"),
    ):
        config = tiny_config(training__sampler={**sampler, **changes}, training__overhang=None, augmentation=[])
        dataset = Dataset.open(mapped, config, config.build_network())
        with pytest.raises(ConfigError, match=message):
            build_sampler(dataset)


def test_a_stratum_may_have_a_sampler_of_its_own(mapped):
    regions = [{"begin": [None] * 3, "end": [None, None, 63]}]
    strata = {
        "dark": {"weight": 1, "sampler": {"kind": "class", "shares": {"dark": 1}, "voxel_size": [4.5] * 3}},
        "left": {"weight": 1, "sampler": {"kind": "uniform", "regions": regions}},
    }
    config = tiny_config(training__sampler={"kind": "stratified", "strata": strata}, augmentation=[])
    records = [json.loads(text) for text in samples(config, mapped, 20)["MASK_1_OUTPUT"].attrs["location"]]
    assert {(record["stratum"], record.get("class")) for record in records} == {("dark", "dark"), ("left", None)}


def test_a_class_may_unite_several(volume):
    drawn = samples(tiny_config(augmentation=[]), volume, 1)["TARGET_1_OUTPUT"].data
    united = tiny_config(augmentation=[], data__classes={"any": ["bright", "dark"], "dark": "dark"})
    both = samples(united, volume, 1)["TARGET_1_OUTPUT"].data
    known = samples(tiny_config(augmentation=[]), volume, 1)["MASK_1_OUTPUT"].data.all(axis=1)
    np.testing.assert_array_equal(both[:, 0][known], drawn.max(axis=1)[known])
    np.testing.assert_array_equal(both[:, 1], drawn[:, 1])


@pytest.fixture(scope="module")
def off_lattice(tmp_path_factory):
    """Labels that begin a third of a voxel further along x than a voxel of the raw data does."""
    folder = tmp_path_factory.mktemp("off") / "volume.zarr"
    raw, masks = tissue()
    write_array(folder / "em" / "raw", raw, levels=2)
    for name, mask in masks.items():
        write_array(folder / "labels" / "crop" / name, mask[4:20, 8:32, 6:34], (4, 8, 6 + 1 / 3), labels=True)
    return folder


def test_labels_between_raw_voxels_are_refused_or_raw_is_resampled(off_lattice):
    with pytest.raises(ValueError, match=r"write data\.sources\.0\.alignment: resample, so that raw data and labels"):
        samples(tiny_config(augmentation=[]), off_lattice, 1)
    config = tiny_config(
        augmentation=[], data__sources__0__alignment="resample", network__subnets=tiny_config().network.subnets[1:]
    )
    drawn = samples(config, off_lattice, 1)
    record = json.loads(drawn["RAW_0_INPUT"].attrs["location"][0])
    dataset = Dataset.open(off_lattice, config, config.build_network())
    begin = dataset.world.position_in_nm(Coordinate(record["begin"]))
    corner = [float(b - c) / VOXEL for b, c in zip(begin, dataset.raw.levels[0].begin, strict=True)]
    assert corner[2] % 1 == pytest.approx(1 / 3)
    (data,) = drawn["RAW_0_INPUT"].data
    margin = (data.shape[-1] - 8) // 2
    first = [round(c - margin) for c in corner[:2]] + [int(np.floor(corner[2])) - margin]
    raw = tissue()[0].astype(float)
    index = [np.arange(b, b + n + (axis == 2)) for axis, (b, n) in enumerate(zip(first, data.shape[1:], strict=True))]
    inside = all(i.min() >= 0 and i.max() < n for i, n in zip(index, SHAPE, strict=True))
    clipped = raw[np.ix_(*(i.clip(0, n - 1) for i, n in zip(index, SHAPE, strict=True)))]
    expected = np.rint(clipped[..., :-1] * 2 / 3 + clipped[..., 1:] / 3) / 255 * 2 - 1
    if not inside:  # what is mirrored is another test's business
        core = (slice(margin, -margin),) * 3
        data, expected = data[:, *core], expected[core]
    np.testing.assert_allclose(data[0], expected, rtol=0, atol=1.01 * 2 / 255)


def test_what_is_annotated_as_unknown_is_masked(tmp_path):
    folder = tmp_path / "volume.zarr"
    raw, masks = tissue()
    write_array(folder / "em" / "raw", raw)
    for name, mask in masks.items():
        values = mask.copy()
        values[:, :, :20] = 9
        annotation = {
            "class_name": name,
            "annotation_type": {
                "type": "semantic_segmentation",
                "encoding": {"absent": 0, "present": 1, "unknown": 9},
            },
        }
        attributes = {"cellmap": {"annotation": annotation}}
        write_array(folder / "labels" / "crop" / name, values, labels=True, attributes=attributes)
    config = tiny_config(augmentation=[], training__region={"begin": [None] * 3, "end": [None] * 3})
    drawn = samples(config, folder, 20)
    masks_drawn, targets = drawn["MASK_1_OUTPUT"].data, drawn["TARGET_1_OUTPUT"].data
    for number, record in enumerate(drawn["MASK_1_OUTPUT"].attrs["location"]):
        begin = np.array(json.loads(record)["begin"]) // 9
        known = (np.arange(8) + begin[2] >= 20) & (np.arange(8) + begin[2] < SHAPE[2])
        inside = [(np.arange(8) + b >= 0) & (np.arange(8) + b < n) for b, n in zip(begin[:2], SHAPE, strict=False)]
        expected = inside[0][:, None, None] & inside[1][None, :, None] & known[None, None]
        np.testing.assert_array_equal(masks_drawn[number].astype(bool), np.broadcast_to(expected, (2, 8, 8, 8)))
        assert not targets[number][:, ~expected].any()


@pytest.mark.slow
@pytest.mark.usefixtures("warm_workers")
def test_workers_change_no_bit_of_a_run(volume, tmp_path):
    config = tiny_config(**EVERYTHING, training__batch_size=2, training__iterations=3)
    alone = train(config, volume, tmp_path / "alone", "cpu")
    helped = tiny_config(**EVERYTHING, training__batch_size=2, training__iterations=3, training__workers=2)
    assert_equal(train(helped, volume, tmp_path / "helped", "cpu"), alone)
