"""A volume in the world that fits a network: the tiny volume's corner is at -2.25 nm, its voxels are of 4.5 nm."""

import re
import shutil
from fractions import Fraction

import gunpowder as gp
import numpy as np
import pytest

from scalenet_gp.errors import ConfigError
from scalenet_gp.nodes.chains.building import build_chain
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.predicted_sources import predicted_sources
from scalenet_gp.pipelines.inspection import draw_samples
from scalenet_gp.pipelines.prediction import predict
from scalenet_gp.pipelines.training import train
from scalenet_gp.volumes import create_array
from tests.pipelines.conftest import CLASSES, CORNER, CROPS, VOXEL, files_below, tiny_config, tissue, write_array

EVERYWHERE = Region(begin=(None,) * 3, end=(None,) * 3)


def opened(path, **changes):
    config = tiny_config(**changes)
    return Dataset.open(path, config, config.build_network())


def in_nm(dataset, roi):
    """Begin and end of a ROI, nm from the raw volume's corner."""
    ends = (dataset.world.position_in_nm(end) for end in (roi.begin, roi.end))
    return [[float(length) - CORNER for length in end] for end in ends]


@pytest.fixture
def dataset(volume):
    return opened(volume)


def test_the_world_has_the_volumes_corner_on_every_lattice(dataset):
    assert dataset.world.unit == Fraction(1, 2)
    corner = dataset.world.position(dataset.raw.levels[0].begin)
    assert all(c % size == 0 for c, size in zip(corner, dataset.lattice(), strict=True))
    assert tuple(dataset.world.size_in_nm(dataset.lattice())) == (9, 9, 9)


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        ((None,) * 3, (None,) * 3, [[18, 36, 27], [90, 144, 153]]),  # as far as any class is annotated
        ((None, None, 99), (None,) * 3, [[18, 36, 99], [90, 144, 153]]),
        ((0, 0, 0), (9, None, 45), [[0, 0, 0], [9, 144, 45]]),  # sections count from the volume's corner
        ((0, 0, 0), (108, 180, 180), [[0, 0, 0], [108, 180, 180]]),
        ((1, -4.5, 8.5), (26.5, 18, 18), [[9, 0, 9], [18, 18, 18]]),  # shrunk to whole voxels of every output
        ((-18, 0, 0), (9, 9, 198), [[-18, 0, 0], [9, 9, 198]]),  # beyond the volume
    ],
)
def test_regions_count_from_the_raw_volumes_corner(dataset, begin, end, expected):
    assert in_nm(dataset, dataset.roi(Region(begin=begin, end=end))) == expected


def test_regions_of_a_volume_that_begins_elsewhere_count_from_its_corner(tmp_path):
    """The raw volume begins at 450, 90 and -180 nm, the annotation 18, 36 and 27 nm further."""
    raw, masks = tissue()
    away = (100, 20, -40)
    write_array(tmp_path / "em" / "raw", raw, away, levels=2)
    for name, crop in CROPS.items():
        first = [there + begin for there, (begin, _) in zip(away, crop, strict=True)]
        write_array(tmp_path / "labels" / "crop" / name, masks[name][tuple(slice(*b) for b in crop)], first)
    dataset = opened(tmp_path)
    for begin, expected in ((None,) * 3, [18, 36, 27]), ((0, 9, None), [0, 9, 27]):
        roi = dataset.roi(Region(begin=begin, end=(None, 180, 180)))
        assert in_nm(dataset, roi) == [
            [e + VOXEL * a for e, a in zip(corner, away, strict=True)] for corner in (expected, [90, 180, 180])
        ]
        with pytest.raises(
            ValueError, match=r"covers \[0, 0, 0\] to \[9, 9, 9\] nm from .* not all of " + re.escape(str(expected))
        ):
            predicted_sources(dataset, write_nine(tmp_path / f"p{begin[0]}", away), {"1_output": gp.ArrayKey("P")}, roi)


def write_nine(path, first):
    """A prediction of 9 nm along each axis."""
    write_array(path / "1_output", np.zeros((2, 2, 2, 2), np.float32), first, channels=["bright", "dark"])
    return path


def test_a_region_without_null_needs_no_labels(tmp_path):
    raw, _ = tissue()
    write_array(tmp_path / "em" / "raw", raw)
    dataset = opened(tmp_path)
    assert in_nm(dataset, dataset.roi(Region(begin=(0, 0, 0), end=(9, 9, 9)))) == [[0, 0, 0], [9, 9, 9]]
    with pytest.raises(FileNotFoundError, match="class 'bright' has no labels"):
        dataset.roi(EVERYWHERE)


@pytest.mark.parametrize(
    ("begin", "end", "message"),
    [
        ((0, 0), (9, 9), r"region \[0, 0\] to \[9, 9\] nm has 2 axes, the volume 3"),
        ((0, 0, 1), (9, 9, 17.5), r"region \[0, 0, 1\] to \[9, 9, 17.5\] nm holds no whole voxel of 9 × 9 × 9 nm"),
        ((None, None, 153), (None,) * 3, "holds no whole voxel"),
        ((None, None, 999), (None,) * 3, "holds no whole voxel"),
        ((0, 0, 0.1), (9, 9, 9), r"a bound of a region 0 × 0 × 0.1 nm is not a whole number of world units of 1/2 nm"),
    ],
)
def test_a_region_that_cannot_be_is_refused(dataset, begin, end, message):
    with pytest.raises(ValueError, match=message):
        dataset.roi(Region(begin=begin, end=end))


def test_the_annotated_part_of_a_region(dataset):
    region = Region(begin=(0, 0, 0), end=(45, 180, 180))
    assert in_nm(dataset, dataset.annotated(region)) == [[18, 36, 27], [45, 144, 153]]
    with pytest.raises(ValueError, match=r"nothing is annotated in the region \[0, 0, 0\] to \[18, 180, 180\] nm"):
        dataset.annotated(Region(begin=(0, 0, 0), end=(18, 180, 180)))


def test_arrays_hold_what_is_there(dataset):
    arrays = dataset.arrays
    raw_keys, targets, masks = (
        {"1_output": keys["1_output"]} for keys in (arrays.raw_of_outputs, arrays.targets, arrays.masks)
    )
    roi = dataset.annotated(EVERYWHERE)
    chain = (dataset.inputs.see(raw_keys).stored(), *dataset.target_sources()) + gp.MergeProvider()
    keys = [group["1_output"] for group in (raw_keys, targets, masks)]
    with build_chain(chain) as pipeline:
        batch = pipeline.request_batch(gp.BatchRequest({key: gp.ArraySpec(roi=roi) for key in keys}))
    image, target, mask = (batch[key].data for key in keys)
    raw, classes = tissue()
    box = np.s_[4:20, 8:32, 6:34]
    np.testing.assert_array_equal(image[0], raw[box])
    np.testing.assert_array_equal(target[0], classes["bright"][box])
    np.testing.assert_array_equal(target[1, :8], classes["dark"][4:12, 8:32, 6:34])
    assert not target[1, 8:].any()
    assert mask[0].all()
    assert mask[1, :8].all()
    assert not mask[1, 8:].any()


def test_the_translations_of_a_file_may_be_corners(tmp_path):
    """The same metadata mean another place, and regions still count from the volume's corner."""
    raw, masks = tissue()
    for path, data, crop in [("em/raw", raw, None), *((f"labels/crop/{n}", masks[n], CROPS[n]) for n in masks)]:
        first = [0] * 3 if crop is None else [bounds[0] for bounds in crop]
        shifted = [f - 0.5 for f in first]  # the writer stores centres, half a voxel later
        box = np.s_[:] if crop is None else tuple(slice(*bounds) for bounds in crop)
        write_array(tmp_path / path, data[box], shifted)
    config = tiny_config(data__sources__0__translation="corner", network__subnets=tiny_config().network.subnets[1:])
    dataset = Dataset.open(tmp_path, config, config.build_network())
    assert [float(b) for b in dataset.raw.levels[0].begin] == [CORNER] * 3
    assert in_nm(dataset, dataset.roi(EVERYWHERE)) == [[18, 36, 27], [90, 144, 153]]


def test_a_size_is_whole_voxels_of_every_output(dataset):
    assert tuple(dataset.world.size_in_nm(dataset.shape((9, 18, 45), "block_shape"))) == (9, 18, 45)


@pytest.mark.parametrize("size", [(VOXEL, 9, 9), (0, 9, 9), (-9, 9, 9), (9, 9), (9, 9, 9, 9)])
def test_a_size_off_the_lattice_is_refused(dataset, size):
    with pytest.raises(ValueError, match=r"block_shape .* has to be a positive multiple of 9 × 9 × 9 nm"):
        dataset.shape(size, "block_shape")


def test_a_size_that_is_no_whole_number_of_units_is_refused(dataset):
    with pytest.raises(ValueError, match=r"block_shape .* nm is not a whole number of world units"):
        dataset.shape((9, 9, "1/3"), "block_shape")


def test_a_volume_of_other_axes_than_the_network_is_refused(tmp_path):
    write_array(tmp_path / "em" / "raw", np.zeros((16, 16), np.uint8))
    with pytest.raises(ValueError, match="raw has 2 spatial axes, the network has 3"):
        opened(tmp_path)


def test_raw_data_of_several_channels_are_refused_by_every_job(volume, trained, tmp_path):
    copy = shutil.copytree(volume, tmp_path / "volume.zarr")
    shutil.rmtree(copy / "em" / "raw")
    raw = np.stack([tissue()[0]] * 2)
    write_array(copy / "em" / "raw", raw, channels=("EM", "Fluorescence"), levels=3)
    checkpoint = trained / "checkpoints" / "checkpoint_4.safetensors"
    before = files_below(tmp_path)
    for job in (
        lambda: train(tiny_config(), copy, tmp_path / "run", "cpu", "none"),
        lambda: draw_samples(tiny_config(), copy, 1),
        lambda: predict(tiny_config(), copy, checkpoint, tmp_path / "p.zarr"),
    ):
        with pytest.raises(ConfigError, match=r"em/raw has 2 channels, and the network's input '0_input' has 1: "):
            job()
    assert [name for name in files_below(tmp_path) if name not in before and name != "run"] == []


def test_labels_of_any_format_are_named_where_one_is_missing(volume, tmp_path):
    copy = shutil.copytree(volume, tmp_path / "volume.zarr")
    for name in CLASSES:
        folder = copy / "labels" / "crop" / name
        shutil.rmtree(folder)
        array = create_array(folder, (16, 24, 28), (8, 8, 8), np.dtype(np.uint8))
        array.attrs.update(resolution=[4.5] * 3, offset=[18, 36, 27])
    config = tiny_config(data__classes=["bright", "grey"])
    dataset = Dataset.open(copy, config, config.build_network())
    with pytest.raises(FileNotFoundError, match=r"class 'grey' has no labels .*; beside it there are: bright, dark"):
        dataset.class_volumes()
