"""The preview: which samples it draws, and that the panels show them."""

import re

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.ndimage import map_coordinates

import scalenet_gp.pipelines.preview as preview_module
from scalenet_gp.nodes import Train
from scalenet_gp.nodes.panels import class_colours
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.preview import draw_samples, preview
from scalenet_gp.pipelines.train import train
from tests.pipelines.conftest import (
    CROPS,
    SHAPE,
    TINY,
    VOXEL,
    changed,
    files_below,
    tiny_config,
    tissue,
    write_array,
)

PLAIN = {"jitter_sigma": [0] * 3, "contrast": [1, 1], "brightness": [0, 0], "noise_variance": 0}
"""Augmentation that does nothing."""


def panels(figure, sample):
    """The panels of one sample of a figure, row by row."""
    return [panel for panel in figure.subfigs[sample].axes if panel.images]


def picture(panel):
    return np.asarray(panel.images[0].get_array())


def middle_of(figure, sample):
    """Where the caption says that the middle of a sample lies, nm."""
    caption = figure.subfigs[sample].get_suptitle()
    place = re.match(rf"sample {sample} about \[(.*?)\] nm", caption)[1]
    return np.array([float(length) for length in place.split(", ")])


@pytest.fixture
def drawn(monkeypatch):
    """What ``draw_batch`` was called with."""
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


@pytest.mark.parametrize("seed", range(4))
def test_panels_show_the_volume_where_the_caption_says(volume, seed):
    config = tiny_config(augmentation=None)
    figure = draw_samples(config, volume, samples=1, seed=seed)
    coarse_raw, fine_raw, coarse_classes, fine_classes = panels(figure, 0)

    size = 36 / VOXEL
    begin = middle_of(figure, 0) / VOXEL - size / 2  # of the target, in fine voxels
    assert (begin == begin.round()).all()
    begin = begin.astype(int)
    z = begin[0] + 4
    raw, masks = tissue()
    margin = 40
    padded = np.pad(raw / 255, margin, mode="symmetric")

    plan = config.build_network().plan(
        {name: config.build_network().plan and _target_roi(config) for name in ("0_output", "1_output")}
    )
    unit = _unit(config)
    y, x = (slice(*bounds) for bounds in _voxels(plan.inputs["1_input"], unit, begin, margin))
    np.testing.assert_allclose(picture(fine_raw)[..., 0], padded[z + margin, y, x], atol=1e-5)

    # the stored level holds the means of eight, as whole numbers, and lies between them for odd places
    stored = padded.reshape(*(n for size in padded.shape for n in (size // 2, 2))).mean((1, 3, 5))
    rows, columns = _voxels(plan.inputs["0_input"], unit, begin, margin)
    section = 2 * ((4 - 0) // 2) + begin[0] + margin  # the coarse section that the middle lies in begins there
    places = np.meshgrid(
        [section / 2], np.arange(*rows, 2) / 2, np.arange(*columns, 2) / 2, indexing="ij"
    )
    expected = map_coordinates(stored, places, order=1)[0]
    np.testing.assert_allclose(picture(coarse_raw)[..., 0], expected, atol=1.1 / 255)

    box = tuple(slice(b + margin, b + margin + 8) for b in begin)
    expected, known = padded[box][4][..., None] * np.ones(3), np.zeros((8, 8), bool)
    for colour, (name, crop) in zip(class_colours(2), CROPS.items(), strict=True):
        annotated = np.zeros(SHAPE, bool)
        annotated[tuple(slice(*bounds) for bounds in crop)] = True
        annotated[..., 22:] = False  # beyond the region to learn from
        true = np.pad(annotated & (masks[name] > 0), margin)[box][4]
        expected[true] = 0.4 * expected[true] + 0.6 * colour
        known |= np.pad(annotated, margin)[box][4]
    expected[~known] *= 0.4
    np.testing.assert_allclose(picture(fine_classes), expected, atol=1e-5)
    assert picture(coarse_classes).shape == (4, 4, 3)


def _unit(config):
    return float(config.build_network().unit)
