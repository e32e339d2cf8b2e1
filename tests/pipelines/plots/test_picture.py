"""The picture: its panels, as matplotlib is given them, and as the file has them."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from scalenet_gp.pictures.panels import class_colors
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.plots.picture import draw_prediction
from scalenet_gp.pipelines.prediction import predict
from scalenet_gp.pipelines.training.train_job import train
from tests.pipelines.conftest import (
    CROPS,
    EVALUATED,
    OUTPUTS,
    VOXEL,
    files_below,
    scalenet,
    tiny_config,
    tissue,
    truth_at,
    write_array,
    write_prediction,
)

LOW = Region(begin=(18, 36, 99), end=(54, 144, 153))  # both classes are annotated there


@pytest.fixture
def panels(monkeypatch):
    """The drawn panels in order: pictures (Y, X, 3) and their extents."""
    drawn = []
    original = Axes.imshow

    def imshow(self, picture, **options):
        drawn.append((np.asarray(picture), options["extent"]))
        return original(self, picture, **options)

    monkeypatch.setattr(Axes, "imshow", imshow)
    return drawn


def perfect(factor):
    return truth_at(factor)[0].astype(float)


def test_a_perfect_prediction_looks_like_the_truth(volume, tmp_path, panels):
    prediction = write_prediction(tmp_path / "p", {name: perfect(factor) for name, factor in OUTPUTS.items()})
    output = draw_prediction(tiny_config(), volume, prediction, tmp_path / "new" / "picture.png", LOW)
    assert output == tmp_path / "new" / "picture.png"
    assert len(panels) == 6
    raw, _ = tissue()
    for (image, _), (truth, _), (predicted, extent), factor in zip(
        panels[::3], panels[1::3], panels[2::3], OUTPUTS.values(), strict=True
    ):
        np.testing.assert_array_equal(truth, predicted)
        assert image.shape == (24 // factor, 12 // factor, 3)
        assert extent == (0, 12 * VOXEL, 24 * VOXEL, 0)
        assert (image != truth).any()
    # the middle of voxels 4 to 12 along z, y 8 to 32, x 22 to 34
    np.testing.assert_allclose(panels[3][0][..., 0], raw[8, 8:32, 22:34] / 255, atol=1e-6)
    bright = perfect(1)[0, 4] > 0
    mixed = 0.4 * raw[8, 8:32, 22:34][..., None] / 255 + 0.6 * class_colors(1)[0]
    np.testing.assert_allclose(panels[4][0][bright], mixed[bright], atol=1e-6)


def test_what_is_not_annotated_is_dark_in_the_truth(tmp_path, panels):
    raw, masks = tissue()
    write_array(tmp_path / "v" / "em" / "raw", raw, levels=2)
    half = {"bright": np.s_[4:20, 8:32, 22:28], "dark": np.s_[4:20, 8:32, 30:34]}
    for name, box in half.items():
        write_array(tmp_path / "v" / "labels" / "crop" / name, masks[name][box], [part.start for part in box])
    nothing = {name: np.zeros_like(perfect(factor)) for name, factor in OUTPUTS.items()}
    draw_prediction(tiny_config(), tmp_path / "v", write_prediction(tmp_path / "p", nothing), tmp_path / "p.png")
    image, truth = panels[3][0], panels[4][0]
    np.testing.assert_allclose(truth[:, 6:8], 0.4 * image[:, 6:8], atol=1e-6)
    unlabelled = masks["bright"][12, 8:32, 22:28] == 0
    np.testing.assert_allclose(truth[:, :6][unlabelled], image[:, :6][unlabelled], atol=1e-6)


def test_the_file_shows_raw_data_and_the_colors_of_the_classes(volume, tmp_path):
    sure = {name: perfect(factor) for name, factor in OUTPUTS.items()}
    output = draw_prediction(tiny_config(), volume, write_prediction(tmp_path / "p", sure), tmp_path / "p.png", LOW)
    pixels = imread(output)[..., :3]
    for color in class_colors(2):  # in the legend
        assert (np.abs(pixels - color).max(axis=-1) < 0.01).sum() > 100
    height, width = pixels.shape[:2]
    left, right = pixels[: height // 2, : width // 3 - 20], pixels[: height // 2, 2 * width // 3 + 20 :]
    assert np.ptp(left, axis=-1).max() < 0.01  # raw data is grey
    assert np.ptp(right, axis=-1).max() > 0.3


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_raw_data_of_any_type_fills_the_range_of_greys(tmp_path, panels, dtype):
    raw, masks = tissue()
    scaled = raw.astype(np.uint16) * 257 if dtype == "uint16" else raw.astype(np.float32) / 255
    write_array(tmp_path / "v" / "em" / "raw", scaled)
    for name, crop in CROPS.items():
        box = tuple(slice(*bounds) for bounds in crop)
        write_array(tmp_path / "v" / "labels" / "crop" / name, masks[name][box], [bounds[0] for bounds in crop])
    sure = {name: perfect(factor) for name, factor in OUTPUTS.items()}
    draw_prediction(tiny_config(), tmp_path / "v", write_prediction(tmp_path / "p", sure), tmp_path / "p.png", LOW)
    np.testing.assert_allclose(panels[3][0][..., 1], raw[8, 8:32, 22:34] / 255, atol=1e-5)


def test_two_dimensions_from_training_to_the_picture(tmp_path, panels):
    raw, masks = tissue((40, 48))
    volume = tmp_path / "volume"
    write_array(volume / "em" / "raw", raw)
    for name, mask in masks.items():
        write_array(volume / "labels" / "crop" / name, mask, labels=True)
    network = [
        {"top_resolution": [size] * 2, "base_nc": 2, "downsample_factors": [[2, 2]], "convs_per_level": 1}
        for size in (9, 4.5)
    ]
    flat = tiny_config(
        network=scalenet(*network),
        augmentation=[],
        training__region={"begin": [None, None], "end": [None, 108]},
        training__output_shape=[36, 36],
        training__overhang=None,
        training__iterations=2,
        evaluation__region={"begin": [None, 108], "end": [None, None]},
        prediction__block_shape=[90, 54],
    )
    checkpoint = train(flat, volume, tmp_path / "run", "cpu")
    prediction = predict(flat, volume, checkpoint, tmp_path / "p")
    draw_prediction(flat, volume, prediction, tmp_path / "p.png")
    assert [picture.shape for picture, _ in panels] == [(20, 12, 3)] * 3 + [(40, 24, 3)] * 3
    np.testing.assert_allclose(panels[3][0][..., 0], raw[:, 24:] / 255, atol=1e-6)
    assert imread(tmp_path / "p.png").ndim == 3


def test_a_picture_that_exists_is_refused(volume, predicted, tmp_path):
    (tmp_path / "p.png").write_text("mine")
    with pytest.raises(FileExistsError, match=r"p\.png exists"):
        draw_prediction(tiny_config(), volume, predicted, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_text() == "mine"


def test_a_region_that_cannot_be_drawn_leaves_nothing(volume, predicted, tmp_path):
    for region, message in (
        (Region(begin=(0, 0, 0), end=(18, 18, 18)), "nothing is annotated"),
        (Region(begin=(None,) * 3, end=(None,) * 3), "not all of"),
    ):
        with pytest.raises(ValueError, match=message):
            draw_prediction(tiny_config(), volume, predicted, tmp_path / "p.png", region)
    assert files_below(tmp_path) == []


def test_the_evaluation_region_is_drawn(volume, predicted, tmp_path, panels):
    draw_prediction(tiny_config(), volume, predicted, tmp_path / "p.png")
    (z, z_end), *_ = EVALUATED
    raw, _ = tissue()
    np.testing.assert_allclose(panels[3][0][..., 0], raw[(z + z_end) // 2, 8:32, 22:34] / 255, atol=1e-6)
