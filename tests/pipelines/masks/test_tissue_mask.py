"""The tissue mask job: one result whatever the blocks, in its exact place, or nothing; and the learned way."""

import json
from importlib import resources

import numpy as np
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry.world import exact_size
from scalenet_gp.pipelines.cli import app
from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.masks.tissue_mask import mask_of_prediction, mask_tissue, texture_voxel_size
from scalenet_gp.pipelines.prediction import predict
from scalenet_gp.pipelines.training.train_job import train
from scalenet_gp.tissue import TextureOptions, em_texture_masking
from scalenet_gp.volumes import MultiscaleImage, MultiscaleWriter
from scalenet_gp.volumes.storage import group_attributes, open_array
from scalenet_gp.volumes.stored_array import UnreadableDataError
from tests.pipelines.conftest import CPU, changed, files_below, positions_of_corners, write_array
from tests.scalenet_gp.tissue.generated import best_by_brightness, blob, embedded, overlap
from tests.scalenet_gp.volumes.ome_zarr_files import VNC

OPTIONS = TextureOptions(16)
SHAPE = (56, 49, 67)


def voxels(group, name):
    return open_array(group / name / "s0")[:]


@pytest.fixture(scope="module")
def recording():
    recording = embedded(blob(SHAPE, 0.4))
    recording[:, :, 61:] = 0
    return recording


@pytest.fixture(scope="module")
def volume(recording, tmp_path_factory):
    return write_array(tmp_path_factory.mktemp("data") / "raw", recording, (3, -5, 7), 100.5)


@pytest.mark.parametrize("block", [25, None])
def test_blocks_make_no_difference(volume, recording, tmp_path, block):
    group = mask_tissue(volume, tmp_path / "new" / "mask.zarr", OPTIONS, block=block)
    mask, confidence = em_texture_masking(recording, OPTIONS.block_size)
    assert 0 < mask.mean() < 0.5
    np.testing.assert_allclose(voxels(group, "confidence"), confidence, atol=1e-4)
    differ = voxels(group, "mask") != mask
    assert (np.abs(confidence[differ] - 0.5) < 1e-4).all()
    np.testing.assert_array_equal(voxels(group, "mask"), voxels(group, "confidence") > 0.5)
    assert voxels(group, "mask").dtype == np.uint8
    assert [path.name for path in group.parent.iterdir()] == ["mask.zarr"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_blocks_make_no_difference_to_fractions_either(tmp_path, dtype):
    """A bright speck in one corner, 100 000 times the noise, sets the scale of some blocks: no difference either."""
    recording = embedded(blob(SHAPE, 0.4)) / 100 + 0.003 * np.random.default_rng(1).standard_normal(SHAPE)
    recording[:, :, 57:] = 1e4 * (np.arange(10) % 7 == 0)
    recording = recording.astype(dtype)
    volume = write_array(tmp_path / "raw", recording, voxel=100)
    whole = em_texture_masking(recording, OPTIONS.block_size)
    assert 0 < whole[0].mean() < 0.9
    group = mask_tissue(volume, tmp_path / "mask.zarr", OPTIONS, block=25)
    np.testing.assert_allclose(voxels(group, "confidence"), whole[1], atol=1e-4)
    differ = voxels(group, "mask") != whole[0]
    assert (np.abs(whole[1][differ] - 0.5) < 1e-4).all()


def test_mask_and_confidence_lie_where_the_volume_does(volume, tmp_path):
    group = mask_tissue(volume, tmp_path / "mask.zarr", OPTIONS)
    raw = MultiscaleImage.open(volume)
    for name in ("mask", "confidence"):
        made = MultiscaleImage.open(group / name)
        assert made.levels[0].begin == raw.levels[0].begin
        assert made.levels[0].voxel_size == raw.levels[0].voxel_size
        assert made.levels[0].shape == SHAPE
    attributes = group_attributes(group / "mask")
    assert attributes["source"] == str(volume)
    assert attributes["texture"]["block_size"] == 16


def test_another_voxel_size_is_averaged_from_a_finer_level(tmp_path):
    """The last voxels of the volume do not fill a coarse voxel."""
    recording = embedded(blob((65, 96, 130), 0.4))
    volume = write_array(tmp_path / "raw", recording, (1, 2, 3), 50, levels=2)
    group = mask_tissue(volume, tmp_path / "mask.zarr", OPTIONS, voxel_size=[100], block=20)
    coarse = open_array(volume / "s1")[:]
    confidence = em_texture_masking(coarse, 16)[1]
    np.testing.assert_allclose(voxels(group, "confidence"), confidence, atol=1e-4)
    assert MultiscaleImage.open(group / "mask").levels[0].begin == MultiscaleImage.open(volume).levels[1].begin


@pytest.mark.parametrize(
    ("shape", "voxel_size", "levels", "expected"),
    [
        ((256, 256, 256), (8, 8, 8), 3, (32, 32, 32)),
        ((512, 512, 512), (16, 16, 16), 4, (64, 64, 64)),  # 128 nm would have 64 voxels: as near, but 64 comes first
        ((100, 512, 512), (50, 5, 5), 5, (50, 40, 40)),
        ((20, 512, 512), (50, 5, 5), 5, (100, 80, 80)),  # no level is large
        ((4096, 4096), (4, 4), 5, (64, 64)),
    ],
)
def test_the_level_near_a_hundred_nanometres_is_looked_at(tmp_path, shape, voxel_size, levels, expected):
    with MultiscaleWriter(
        tmp_path / "raw", voxel_size=voxel_size, corner=(0,) * len(shape), shape=shape, dtype=np.uint8, levels=levels
    ):
        pass
    assert texture_voxel_size(MultiscaleImage.open(tmp_path / "raw")) == exact_size(expected)


def test_two_dimensions(tmp_path):
    tissue = blob((200, 230))
    recording = embedded(tissue)
    volume = write_array(tmp_path / "raw", recording, voxel=100)
    group = mask_tissue(volume, tmp_path / "mask.zarr", OPTIONS, block=64)
    mask, confidence = em_texture_masking(recording, 16)
    np.testing.assert_allclose(voxels(group, "confidence"), confidence, atol=1e-4)
    assert overlap(voxels(group, "mask") > 0, tissue) > 0.9
    assert overlap(mask, tissue) > 0.9


def test_the_picture_has_the_outline(volume, tmp_path):
    """Orange lines where there is both, and none where all is resin."""
    plain = write_array(tmp_path / "plain", embedded(np.zeros((40, 40, 40), bool)), voxel=100)
    counts = []
    for source in (volume, plain):
        group = mask_tissue(source, tmp_path / f"{source.name}.zarr", OPTIONS)
        red, green, blue = np.moveaxis(imread(group / "mask.png")[..., :3], -1, 0)
        counts.append(np.count_nonzero((red > 0.95) & (abs(green - 0.65) < 0.05) & (blue < 0.1)))
    assert counts[0] > 500
    assert counts[1] == 0


def test_an_output_that_exists_is_refused(volume, tmp_path):
    (tmp_path / "mask.zarr").mkdir()
    with pytest.raises(FileExistsError, match=r"mask\.zarr exists; choose another output"):
        mask_tissue(volume, tmp_path / "mask.zarr")
    assert files_below(tmp_path) == ["mask.zarr"]


def test_a_chunk_that_cannot_be_read_leaves_nothing(recording, tmp_path):
    volume = write_array(tmp_path / "raw", recording, voxel=100)
    chunk = volume / "s0" / "1" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:20])
    before = files_below(tmp_path)
    with pytest.raises(UnreadableDataError):
        mask_tissue(volume, tmp_path / "out" / "mask.zarr", OPTIONS, block=40)
    assert [path for path in files_below(tmp_path) if path not in before] == ["out"]


def test_values_that_are_no_numbers_leave_nothing(tmp_path):
    data = np.ones((20, 20, 20), np.float32)
    data[3, 4, 5] = np.nan
    volume = write_array(tmp_path / "raw", data, voxel=100)
    with pytest.raises(ValueError, match="1 voxels are no finite numbers"):
        mask_tissue(volume, tmp_path / "mask.zarr")
    assert not list(tmp_path.glob("mask.zarr*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"voxel_size": (150,) * 3}, r"no level can give voxels of 150 × 150 × 150 nm|no whole voxel"),
        ({"voxel_size": (100, 100)}, "voxel size 100 × 100 nm has to be 3 positive lengths"),
        ({"voxel_size": (6400,) * 3}, "has no whole voxel of 6400 × 6400 × 6400 nm"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, arguments, message):
    volume = write_array(tmp_path / "raw", np.zeros((20, 20, 20), np.uint8), voxel=100)
    with pytest.raises(ValueError, match=message):
        mask_tissue(volume, tmp_path / "mask.zarr", **arguments)
    assert not list(tmp_path.glob("mask.zarr*"))


PROBABILITY = np.random.default_rng(0).random((2, 10, 12, 14)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
def test_a_prediction_becomes_a_mask(tmp_path, dtype):
    stored = (PROBABILITY * 255).round().astype(dtype) if dtype == np.uint8 else PROBABILITY.astype(dtype)
    prediction = write_array(tmp_path / "p", stored, (1, 2, 3), 128, channels=("other", "tissue"))
    group = mask_of_prediction(prediction, tmp_path / "mask.zarr", "tissue", 0.7)
    probability = stored[1] / (np.float32(255) if dtype == np.uint8 else np.float32(1))
    np.testing.assert_array_equal(voxels(group, "mask"), probability >= 0.7)
    np.testing.assert_allclose(voxels(group, "confidence"), probability)
    assert MultiscaleImage.open(group / "mask").levels[0] == MultiscaleImage.open(prediction).levels[0]
    assert (group / "mask.png").is_file()


def test_which_class_of_a_prediction_is_tissue_has_to_be_known(tmp_path):
    prediction = write_array(tmp_path / "p", PROBABILITY, voxel=128, channels=("other", "tissue"))
    with pytest.raises(ValueError, match="has 2 channels; name the one"):
        mask_of_prediction(prediction, tmp_path / "mask.zarr")
    with pytest.raises(ValueError, match="nucleus"):
        mask_of_prediction(prediction, tmp_path / "mask.zarr", "nucleus")
    with pytest.raises(ValueError, match="threshold=0 has to be"):
        mask_of_prediction(prediction, tmp_path / "mask.zarr", "tissue", 0)
    alone = write_array(tmp_path / "one", PROBABILITY[:1], voxel=128, channels=("tissue",))
    mask_of_prediction(alone, tmp_path / "alone.zarr")
    assert not (tmp_path / "mask.zarr").exists()


def test_the_command_line_finds_both_ways(volume, tmp_path):
    done = CliRunner().invoke(
        app,
        ["mask", str(volume), "--output", str(tmp_path / "a.zarr"), "--voxel-size", "100.5", "--set", "block_size=24"]
        + ["--set", "texture_sigma=1.5", "--set", "edge_sigma=0.75", "--set", "min_region_size=90"],
    )
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "a.zarr" / "mask.png") in done.stdout
    texture = group_attributes(tmp_path / "a.zarr")["texture"]
    assert texture == {"block_size": 24, "texture_sigma": 1.5, "edge_sigma": 0.75, "min_region_size": 90}
    prediction = write_array(tmp_path / "p", PROBABILITY, voxel=128, channels=("other", "tissue"))
    done = CliRunner().invoke(
        app,
        ["mask", str(prediction), "--output", str(tmp_path / "b.zarr"), "--predicted", "tissue"]
        + ["--threshold", "0.25"],
    )
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(voxels(tmp_path / "b.zarr", "mask"), PROBABILITY[1] >= 0.25)


def test_positions_may_be_those_of_corners(tmp_path):
    raw = write_array(tmp_path / "raw", embedded(blob((64, 64, 64), 0.4)), voxel=100, levels=2)
    prediction = write_array(tmp_path / "p", PROBABILITY, voxel=128, channels=("other", "tissue"), levels=2)
    for volume, name, arguments in (
        (raw, "a", ["--set", "block_size=16"]),
        (prediction, "b", ["--predicted", "tissue"]),
    ):
        positions_of_corners(volume)
        with pytest.raises(ValueError, match="with translation='corner' they would agree"):
            MultiscaleImage.open(volume)
        done = CliRunner().invoke(
            app, ["mask", str(volume), "--output", str(tmp_path / name), "--translation", "corner", *arguments]
        )
        assert done.exit_code == 0, done.output
        assert MultiscaleImage.open(tmp_path / name / "mask").levels[0].begin == (0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "0.5"], "--threshold is one of probabilities: name the class"),
        (["--predicted", "tissue", "--voxel-size", "128"], "--voxel-size: this is for texture; leave it out"),
        (
            ["--predicted", "tissue", "--set", "min_region_size=250", "--set", "edge_sigma=0.5"],
            "--set min_region_size, --set edge_sigma: this is for texture",
        ),
        (
            ["--predicted", "tissue", "--voxel-size", "64", "--set", "texture_sigma=1"],
            "--voxel-size, --set texture_sigma: ",
        ),
        (["--set", "block=64"], r"there is no option block of the texture; did you mean block_size?"),
    ],
)
def test_options_that_would_make_no_difference_are_refused(tmp_path, arguments, message):
    """Defaults too."""
    prediction = write_array(tmp_path / "p", PROBABILITY, voxel=128, channels=("other", "tissue"))
    done = CliRunner().invoke(app, ["mask", str(prediction), "--output", str(tmp_path / "mask.zarr"), *arguments])
    assert isinstance(done.exception, ValueError)
    assert message in str(done.exception)
    assert not (tmp_path / "mask.zarr").exists()


def test_a_least_region_larger_than_the_volume_is_refused(tmp_path):
    raw = write_array(tmp_path / "raw", np.zeros((10, 8, 8), np.uint8), voxel=100)
    with pytest.raises(ArgumentError, match=r"min_region_size=641: .*raw has only 640 voxels of 100 × 100 × 100 nm"):
        mask_tissue(raw, tmp_path / "mask.zarr", TextureOptions(16, min_region_size=641))
    assert not (tmp_path / "mask.zarr").exists()


def test_real_tissue_is_all_tissue(tmp_path):
    if not VNC.is_dir():
        pytest.skip(f"no real data at {VNC}")
    group = mask_tissue(VNC / "recon-1" / "em" / "tem-uint8", tmp_path / "mask.zarr")
    assert voxels(group, "mask").all()
    assert voxels(group, "confidence").min() > 0.9
    scale = json.loads((group / "mask" / ".zattrs").read_text())["multiscales"][0]["datasets"][0]
    assert scale["coordinateTransformations"][0]["scale"] == [50, 36.8, 36.8]


@pytest.mark.slow
def test_a_network_learns_it_and_its_prediction_becomes_the_mask(tmp_path):
    """The config for it, with fewer iterations than it is meant for."""
    shape = (96, 64, 64)
    tissue = blob(shape, 0.42)
    recording = embedded(tissue)
    root = tmp_path / "volume" / "recon-1"
    write_array(root / "em" / "fibsem-uint8", recording, voxel=128)
    write_array(root / "labels" / "groundtruth" / "crop1" / "tissue", tissue.astype(np.uint8), voxel=128, labels=True)
    with resources.as_file(resources.files("scalenet_gp.pipelines") / "configs" / "tissue.yaml") as path:
        config = Config.read(path)
    config = Config.model_validate(changed(config.model_dump(), training__iterations=50))
    checkpoint = train(config, tmp_path / "volume", tmp_path / "run", "cpu", "none")
    prediction = predict(config, tmp_path / "volume", checkpoint, tmp_path / "prediction.zarr", workers=CPU)
    group = mask_of_prediction(prediction / "0_output", tmp_path / "mask.zarr", "tissue")
    held_out = tissue[64:]
    assert best_by_brightness(recording[64:], held_out) < 0.35
    assert overlap(voxels(group, "mask") > 0, held_out) > 0.55


def test_a_channel_and_a_unit_can_be_stated(volume, recording, tmp_path):
    expected = voxels(mask_tissue(volume, tmp_path / "expected.zarr", OPTIONS), "mask")
    path = write_array(tmp_path / "raw", np.stack([recording * 0, recording]), voxel=100.5, channels=("a", "b"))
    attributes = json.loads((path / ".zattrs").read_text())
    for axis in attributes["multiscales"][0]["axes"]:
        axis.pop("unit", None)
    (path / ".zattrs").write_text(json.dumps(attributes))
    command = ["mask", str(path), "--output", str(tmp_path / "m.zarr"), "--set", "block_size=16"]
    stated = ["--unit", "nanometer", "--select", "c=1"]
    assert CliRunner().invoke(app, [*command, *stated]).exit_code == 0
    np.testing.assert_array_equal(voxels(tmp_path / "m.zarr", "mask"), expected)
    done = CliRunner().invoke(app, [*command, "--select", "c"])
    assert "--select is an axis and an entry of it, as c=0, not 'c'" in str(done.exception)
