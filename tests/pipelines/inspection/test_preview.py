"""The preview: which samples it draws, and that the panels show them."""

import re

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.ndimage import map_coordinates

import scalenet_gp.pipelines.inspection.preview_job as preview_module
from scalenet_gp.nodes import Train
from scalenet_gp.pictures.panels import class_colors
from scalenet_gp.pipelines.inspection.preview_job import draw_samples, preview
from scalenet_gp.pipelines.training.train_job import train
from tests.pipelines.conftest import (
    CROPS,
    SHAPE,
    VOXEL,
    files_below,
    tiny_config,
    tissue,
    write_array,
)

COARSE_FIELD, FINE_FIELD = (-14, 22), (-5, 13)
"""Voxels that the tiny network reads for the target's fine voxels 0 to 8, along every axis."""

PLAIN = {"kind": "deform", "control_point_spacing": [36] * 3, "jitter_sigma": [0] * 3}
"""Augmentation that does nothing."""


def panels(figure, sample):
    """The panels of one sample of a figure, row by row."""
    return [panel for panel in figure.subfigs[sample].axes if panel.images]


def picture(panel):
    return np.asarray(panel.images[0].get_array())


def middle_of(figure, sample):
    """The middle of a sample, nm, as the caption names it."""
    caption = figure.subfigs[sample].get_suptitle()
    place = re.match(rf"sample {sample} about \[(.*?)\] nm", caption)[1]
    return np.array([float(length) for length in place.split(", ")])


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of the calls of ``draw_batch``."""
    calls = []
    original = preview_module.draw_batch

    def draw_batch(*arguments, **options):
        calls.append((arguments, options))
        return original(*arguments, **options)

    monkeypatch.setattr(preview_module, "draw_batch", draw_batch)
    return calls


def test_sample_k_is_the_first_of_batch_k_of_the_run(monkeypatch, volume, tmp_path, drawn):
    learned = []
    original = Train.process

    def process(self, batch, request):
        learned.append({str(key): array.data.copy() for key, array in batch.items()})
        return original(self, batch, request)

    monkeypatch.setattr(Train, "process", process)
    config = tiny_config(training__batch_size=2, training__iterations=3)
    train(config, volume, tmp_path / "run", "cpu")
    draw_samples(config, volume, samples=3)
    batch = drawn[0][0][0]
    assert {str(key) for key in batch.arrays} == learned[0].keys()
    for key, array in batch.items():
        for sample, of_run in zip(array.data, learned, strict=True):
            np.testing.assert_array_equal(sample, of_run[str(key)][0])
    assert not np.array_equal(learned[0]["RAW_1_INPUT"][0], learned[1]["RAW_1_INPUT"][0])


def test_the_seed_is_the_runs_unless_given(volume, drawn):
    for options in ({}, {"seed": 1}, {"seed": 2}):
        draw_samples(tiny_config(), volume, samples=1, **options)
    one, same, other = (
        {str(key): array.data for key, array in arguments[0].items()}["RAW_0_INPUT"] for arguments, _ in drawn
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_panels_show_the_volume_where_the_caption_says(volume, seed):
    figure = draw_samples(tiny_config(augmentation=[]), volume, samples=1, seed=seed)
    coarse_raw, fine_raw, coarse_classes, fine_classes = panels(figure, 0)
    begin = middle_of(figure, 0) / VOXEL - 4  # of the target's eight, in voxels from the volume's corner
    assert (begin == begin.round()).all()
    begin = begin.astype(int)
    raw, masks = tissue()
    margin = 40
    padded = np.pad(raw / 255, margin, mode="symmetric")
    z = begin[0] + margin + 4

    box = tuple(slice(b + margin + FINE_FIELD[0], b + margin + FINE_FIELD[1]) for b in begin[1:])
    np.testing.assert_allclose(picture(fine_raw)[..., 0], padded[z][box], atol=1e-5)

    # the stored level holds means of eight voxels, as whole numbers; odd places lie between two of them
    stored = padded.reshape([n for size in padded.shape for n in (size // 2, 2)]).mean(axis=(1, 3, 5))
    along = [np.arange(b + margin + COARSE_FIELD[0], b + margin + COARSE_FIELD[1], 2) / 2 for b in begin[1:]]
    expected = map_coordinates(stored, np.meshgrid([z / 2], *along, indexing="ij"), order=1)[0]
    np.testing.assert_allclose(picture(coarse_raw)[..., 0], expected, atol=1.1 / 255)

    box = tuple(slice(b + margin, b + margin + 8) for b in begin[1:])
    expected, known = padded[z][box][..., None] * np.ones(3), np.zeros((8, 8), bool)
    for color, (name, crop) in zip(class_colors(2), CROPS.items(), strict=True):
        annotated = np.zeros(SHAPE, bool)
        annotated[tuple(slice(*bounds) for bounds in crop)] = True
        annotated[..., 22:] = False  # beyond the region to learn from
        true = np.pad(annotated & (masks[name] > 0), margin)[z][box]
        expected[true] = 0.4 * expected[true] + 0.6 * color
        known |= np.pad(annotated, margin)[z][box]
    expected[~known] *= 0.4
    assert known.any()
    np.testing.assert_allclose(picture(fine_classes), expected, atol=1e-5)
    assert picture(coarse_classes).shape == (4, 4, 3)


def test_outlines_lie_where_the_finer_fields_are(volume):
    figure = draw_samples(tiny_config(), volume, samples=2)
    for sample in range(2):
        both = panels(figure, sample)
        assert len(both) == 8
        for row in (both[:4], both[4:]):
            extents = [panel.images[0].get_extent() for panel in row]
            coarse, fine, target = (
                [bound * VOXEL for bound in bounds] for bounds in (COARSE_FIELD, FINE_FIELD, (0, 8))
            )
            assert extents == [[*field, *field[::-1]] for field in (coarse, fine, target, target)]
            boxes = [[patch.get_bbox().extents.tolist() for patch in panel.patches] for panel in row]
            corners = {"fine": [fine[0], fine[0], fine[1], fine[1]], "target": [0, 0, target[1], target[1]]}
            assert boxes == [[corners["fine"], corners["target"]], [corners["target"]], [], []]
            outline = row[0].patches[0].get_edgecolor()
            assert {spine.get_edgecolor() for spine in row[1].spines.values()} == {outline}


def test_augmentation_that_does_nothing_leaves_the_same_place(volume):
    figure = draw_samples(tiny_config(augmentation=[PLAIN]), volume, samples=3, seed=4)
    for sample in range(3):
        both = panels(figure, sample)
        assert [panel.get_ylabel() for panel in (both[0], both[4])] == ["before", "augmented"]
        for before, after in zip(both[:4], both[4:], strict=True):
            np.testing.assert_allclose(picture(before), picture(after), atol=1e-6)
    assert not np.array_equal(picture(panels(figure, 0)[1]), picture(panels(figure, 1)[1]))


def test_a_mirrored_sample_is_the_mirror_image_of_the_place_above(volume):
    figure = draw_samples(tiny_config(augmentation=[{**PLAIN, "mirror_axes": [2]}]), volume, samples=6)
    captions = [figure.subfigs[sample].get_suptitle() for sample in range(6)]
    assert {"mirrored" in caption for caption in captions} == {True, False}
    for sample, caption in enumerate(captions):
        both = panels(figure, sample)
        for before, after in zip(both[:4], both[4:], strict=True):
            expected = picture(before)[:, ::-1] if "mirrored" in caption else picture(before)
            np.testing.assert_allclose(picture(after), expected, atol=1e-5)


def test_displaced_sections_are_shown_against_the_place_itself(volume):
    """Sections are displaced by some four voxels: above is what would be there without that."""
    displaced = {"kind": "misaligned_sections", "thickness": VOXEL, "slip": 1, "sigma": 18}
    figure = draw_samples(tiny_config(augmentation=[PLAIN, displaced]), volume, samples=4)
    raw = np.pad(tissue()[0] / 255, 40, mode="symmetric")
    for sample in range(4):
        z, *begin = (middle_of(figure, sample) / VOXEL).astype(int) + 40
        y, x = (slice(b - 4 + FINE_FIELD[0], b - 4 + FINE_FIELD[1]) for b in begin)
        fine = picture(panels(figure, sample)[1])[..., 0]
        np.testing.assert_allclose(fine, raw[z, y, x], atol=1e-5)
        assert not np.allclose(fine, picture(panels(figure, sample)[5])[..., 0], atol=0.02)


def test_intensities_are_those_of_the_config(volume):
    plain = draw_samples(tiny_config(augmentation=[]), volume, samples=1)
    stretched = draw_samples(tiny_config(augmentation=[], data__intensities=[63.75, 191.25]), volume, samples=1)
    for one, other in zip(panels(plain, 0)[:2], panels(stretched, 0)[:2], strict=True):
        np.testing.assert_allclose(picture(other), np.clip(2 * picture(one) - 0.5, 0, 1), atol=1e-5)


def test_the_caption_names_the_class_and_what_was_drawn(volume):
    config = tiny_config(training__sampler={"kind": "class", "shares": {"dark": 1}})
    figure = draw_samples(config, volume, samples=3)
    for sample in range(3):
        caption = " ".join(figure.subfigs[sample].get_suptitle().split())
        drawn = r"class dark(, mirrored)?, contrast [\d.]+, brightness [+-][\d.e-]+, noise 0.032"
        assert re.fullmatch(rf"sample {sample} about \[.*\] nm: {drawn}", caption)
    # what a sample by class holds is that class
    shown = [picture(panels(figure, sample)[3]) for sample in range(3)]
    assert any((image != image[..., :1]).any() for image in shown)


def test_two_dimensions(tmp_path):
    raw, masks = tissue((40, 48))
    volume = tmp_path / "volume"
    write_array(volume / "em" / "raw", raw)
    for name, mask in masks.items():
        write_array(volume / "labels" / "crop" / name, mask, labels=True)
    flat = {
        "network__subnets": [
            {"top_resolution": [size] * 2, "base_nc": 2, "downsample_factors": [[2, 2]], "convs_per_level": 1}
            for size in (9, 4.5)
        ],
        "augmentation": [
            {"kind": "deform", "control_point_spacing": [36] * 2, "jitter_sigma": [2] * 2, "rotation_axes": [0, 1]}
        ],
        "training__region": {"begin": [None, None], "end": [None, 108]},
        "training__output_shape": [36, 36],
        "training__overhang": None,
        "evaluation__region": {"begin": [None, 108], "end": [None, None]},
        "prediction": {"block_shape": [90, 54]},
    }
    figure = draw_samples(tiny_config(**flat), volume, samples=1)
    begin = (middle_of(figure, 0) / VOXEL - 4).astype(int)
    y, x = (slice(b + 40 + FINE_FIELD[0], b + 40 + FINE_FIELD[1]) for b in begin)
    expected = np.pad(raw / 255, 40, mode="symmetric")[y, x]
    np.testing.assert_allclose(picture(panels(figure, 0)[1])[..., 0], expected, atol=1e-5)
    assert picture(panels(figure, 0)[7]).shape == (8, 8, 3)


def test_the_file_is_the_picture(volume, tmp_path):
    output = preview(tiny_config(), volume, tmp_path / "new" / "preview.png", samples=1)
    assert output == tmp_path / "new" / "preview.png"
    pixels = imread(output)[..., :3]
    for color in class_colors(2):  # in the legend
        assert (np.abs(pixels - color).max(axis=-1) < 0.01).sum() > 100
    taller = imread(preview(tiny_config(), volume, tmp_path / "two.png", samples=2))
    assert taller.shape[0] > 1.7 * pixels.shape[0]


def test_a_picture_that_exists_is_refused(volume, tmp_path):
    (tmp_path / "p.png").write_text("mine")
    with pytest.raises(FileExistsError, match=r"p\.png exists; choose another output"):
        preview(tiny_config(), volume, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "options", "error", "message"),
    [
        ({}, {"samples": 0}, ValueError, "0 samples of the run with seed 1: one sample is the least"),
        ({}, {"seed": -1}, ValueError, "seed -1: one sample is the least, 0 the lowest seed"),
        ({"data__sources__0__raw": "em/gone"}, {}, FileNotFoundError, "no such multiscale group"),
        ({"data__classes": ["bright", "mito"]}, {}, FileNotFoundError, "class 'mito' has no labels"),
        ({"training__output_shape": [36, 36, 40.5]}, {}, ValueError, "has to be a positive multiple of 9 × 9 × 9 nm"),
        (
            {"training__region__begin": [0, 0, 0], "training__region__end": [18, 18, 18]},
            {},
            ValueError,
            "no class has a whole",
        ),
    ],
)
def test_what_cannot_be_drawn_leaves_nothing(volume, tmp_path, changes, options, error, message):
    with pytest.raises(error, match=message):
        preview(tiny_config(**changes), volume, tmp_path / "new" / "p.png", **options)
    assert files_below(tmp_path) == []
