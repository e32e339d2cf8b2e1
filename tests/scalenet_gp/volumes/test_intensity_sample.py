"""Sampled intensities against those of a volume whose tissue is known."""

import numpy as np
import pytest

from scalenet_gp.volumes import MultiscaleImage, sample_intensities


def tissue(shape, seed=0):
    return np.random.default_rng(seed).normal(120, 30, shape).clip(1, 254).astype(np.uint8)


def image_of(*levels):
    sizes = [(8 * 2**number,) * levels[0].ndim for number in range(len(levels))]
    return MultiscaleImage.from_arrays(levels, sizes)


@pytest.mark.parametrize("shape", [(40, 50, 60), (300, 280)])
def test_a_small_volume_is_read_whole(shape):
    data = tissue(shape)
    sample = sample_intensities(image_of(data))
    assert np.array_equal(np.sort(sample.values), np.sort(data.ravel()))
    low, high = np.percentile(data, (0.5, 99.5))
    assert sample.window() == (np.floor(low), np.ceil(high))


def test_a_large_volume_is_read_in_blocks_all_over_it():
    places = np.arange(400, dtype=np.uint16)
    data = np.broadcast_to(places[:, None, None], (400, 32, 32)) * 10 + np.arange(2, dtype=np.uint16).repeat(16)
    sample = sample_intensities(image_of(np.ascontiguousarray(data)), blocks=5)
    read = np.unique(sample.values // 10 // 32)
    assert len(read) == 5
    assert np.diff(read).max() <= 4


def test_what_is_not_tissue_is_left_out():
    data = tissue((96, 96, 96))
    window = sample_intensities(image_of(data)).window()
    data[:32] = 0  # nothing was recorded
    data[32:64, :32] = np.random.default_rng(1).normal(230, 2, (32, 32, 96))  # resin
    data[70] = 255  # a lost section
    found = sample_intensities(image_of(data)).window()
    assert np.abs(np.subtract(found, window)).max() <= 3


def test_floats_that_are_not_finite_are_left_out():
    data = tissue((32, 32, 32)).astype(np.float32)
    expected = sample_intensities(image_of(data)).window()
    data[0, 0, :2] = np.nan, np.inf
    assert sample_intensities(image_of(data)).window() == pytest.approx(expected, abs=0.1)


def test_values_of_one_kind_throughout_are_kept():
    blocks = np.kron([[[0, 255], [255, 0]]], np.ones((32, 32, 32))).astype(np.uint8)
    assert sample_intensities(image_of(blocks[:, :32, :32])).values.max() == 0
    assert sample_intensities(image_of(blocks)).window() == (0, 255)


def test_the_level_is_the_coarsest_that_is_as_fine():
    fine, coarse = np.full((64,) * 3, 1, np.int16), np.full((32,) * 3, 2, np.int16)
    image = image_of(fine, coarse)
    assert [sample_intensities(image, size and (size,) * 3).values.max() for size in (None, 8, 15, 16, 99)] == [
        1,
        1,
        1,
        2,
        2,
    ]


def test_shares_within_a_window():
    sample = sample_intensities(image_of(tissue((32, 32, 32))))
    assert sample.share_within(0, 255) == 1
    assert sample.share_within(300, 400) == 0
    assert sample.share_within(0, 120) == pytest.approx(0.5, abs=0.02)
