"""Tissue by texture: found where brightness says nothing, and not invented where there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from scalenet_gp.tissue import TextureOptions, em_texture_masking
from scalenet_gp.tissue.features import cell_texture
from scalenet_gp.tissue.lost_sections import fill_lost_sections
from scalenet_gp.tissue.regions import NOISE, texture_threshold, tissue_confidence
from tests.scalenet_gp.tissue.generated import best_by_brightness, blob, embedded, overlap

BLOCK = 16
CUBE = (88, 104, 96)


@pytest.fixture(scope="module")
def tissue():
    return blob(CUBE, 0.44, 0.04)


@pytest.fixture(scope="module")
def recording(tissue):
    return embedded(tissue)


def test_tissue_is_found_where_no_threshold_on_brightness_finds_it(recording, tissue):
    mask, confidence = em_texture_masking(recording, BLOCK)
    assert best_by_brightness(recording, tissue) < 0.4
    assert overlap(mask, tissue) > 0.9
    assert mask.dtype == bool
    assert confidence.dtype == np.float32
    assert confidence.shape == mask.shape == CUBE
    assert confidence.min() >= 0
    assert confidence.max() <= 1
    np.testing.assert_array_equal(mask, confidence > 0.5)
    assert confidence[tissue].mean() > 0.7
    assert confidence[~tissue].mean() < 0.3


def test_with_the_windows_that_are_the_default_in_a_section():
    tissue = blob((480, 560))
    recording = embedded(tissue)
    mask, _ = em_texture_masking(recording)
    assert best_by_brightness(recording, tissue) < 0.7
    assert overlap(mask, tissue) > 0.94


@pytest.mark.parametrize("shape", [(64, 64, 72), (320, 280)])
@pytest.mark.parametrize("noise", [0.3, 1.0, 5.0])
def test_a_volume_of_tissue_alone_is_all_tissue_and_one_of_resin_has_none(shape, noise):
    everywhere = np.ones(shape, bool)
    assert em_texture_masking(embedded(everywhere, noise=noise), 48)[0].mean() > 0.998
    assert em_texture_masking(embedded(~everywhere, noise=noise), 48)[0].mean() < 0.01


@pytest.mark.parametrize("noise", [0.2, 2.0])
def test_any_level_of_noise_will_do(tissue, noise):
    assert overlap(em_texture_masking(embedded(tissue, noise=noise), BLOCK)[0], tissue) > 0.9


def test_noise_that_grows_with_brightness_is_no_texture():
    rng = np.random.default_rng(0)
    brightness = np.broadcast_to(np.linspace(30, 220, 96), (72, 80, 96))
    recording = brightness + np.sqrt(brightness) * rng.standard_normal(brightness.shape)
    assert not em_texture_masking(recording.clip(0, 255).astype(np.uint8), 32)[0].any()


def test_tissue_as_white_as_noise_is_found_by_its_strength(tissue):
    rng = np.random.default_rng(0)
    recording = rng.standard_normal(CUBE) * np.where(tissue, 30, 4)
    assert overlap(em_texture_masking(recording, BLOCK)[0], tissue) > 0.9


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_gain_offset_and_dtype_make_no_difference(recording, dtype):
    part = recording[:48, :48, :64]
    mask, confidence = em_texture_masking(part.astype(np.float32), BLOCK)
    offset = 2000 if np.issubdtype(dtype, np.integer) else -3.5
    again, sure = em_texture_masking((part.astype(dtype) * dtype(4) + dtype(offset)).astype(dtype), BLOCK)
    # whole numbers have their rounding counted as noise, which is next to nothing here
    np.testing.assert_allclose(sure, confidence, atol=0.02)
    assert overlap(again, mask) > 0.98


def test_blank_parts_are_no_tissue_and_their_borders_no_texture(tissue):
    for true in (tissue, ~tissue & False, tissue | True):
        recording = embedded(true)
        recording[:, :, :30] = 0
        recording[:, :20] = 255
        kept = true.copy()
        kept[:, :, :30] = kept[:, :20] = False
        mask, confidence = em_texture_masking(recording, BLOCK)
        assert mask.any() == kept.any()
        assert not kept.any() or overlap(mask, kept) > 0.8
        assert confidence[:, :, :26].max() < 0.5


@pytest.mark.parametrize("value", [0, 200])
def test_a_blank_volume_has_none(value):
    mask, confidence = em_texture_masking(np.full((40, 40, 40), value, np.uint8), 16)
    assert not mask.any()
    assert confidence.max() < 0.01


@pytest.mark.parametrize("least", [48 * 40, 48 * 40 + 1, 10**9])
def test_a_least_region_as_large_as_the_volume_makes_no_tissue_of_resin(least):
    half = np.zeros((48, 40), bool)
    half[:24] = True
    for tissue, expected in ((half, False), (np.zeros_like(half), False), (np.ones_like(half), True)):
        mask, confidence = em_texture_masking(embedded(tissue, noise=1), 8, min_region_size=least)
        assert (mask == expected).all()
        assert ((confidence > 0.5) == expected).all()


@pytest.mark.parametrize("shape", [(1, 200, 220), (3, 160, 160), (200, 220), (17, 33, 190), (2, 2, 2), (1, 9)])
def test_volumes_of_any_proportion(shape):
    everywhere = np.ones(shape, bool)
    for true in (everywhere, ~everywhere):
        mask, confidence = em_texture_masking(embedded(true, noise=3), 32)
        assert mask.shape == shape
        assert np.isfinite(confidence).all()
        if min(shape[-2:]) > 100:
            assert abs(mask.mean() - true.mean()) < 0.02


def test_one_section_is_the_same_with_and_without_its_axis(recording):
    section = recording[40]
    mask, confidence = em_texture_masking(section, BLOCK)
    again, sure = em_texture_masking(section[None], BLOCK)
    np.testing.assert_array_equal(again[0], mask)
    np.testing.assert_array_equal(sure[0], confidence)


def test_smaller_windows_show_finer_detail():
    """Resin between two pieces of tissue: seen by windows that are narrower than it, closed by those that are not."""
    tissue = np.ones((256, 256), bool)
    tissue[:, 116:140] = False
    fine, coarse = (em_texture_masking(embedded(tissue), size)[0] for size in (8, 96))
    assert overlap(~fine, ~tissue) > 0.7
    assert coarse.all()


def test_the_scale_of_texture_can_be_chosen():
    """Texture of one scale over noise: most of it is seen with that scale."""
    rng = np.random.default_rng(0)
    waves = gaussian_filter(rng.standard_normal((256, 256)), 4)
    recording = rng.standard_normal((256, 256)) + 1.2 * waves / waves.std()
    energies = [cell_texture(recording, TextureOptions(64, sigma), (256, 256))[0].mean() for sigma in (0.5, 1.0, 2.0)]
    assert energies[0] + 0.1 < energies[1] < energies[2] - 0.1


def test_the_scale_of_edges_can_be_chosen():
    """Stripes run one way; wider derivatives see more of them and less of the noise."""
    rng = np.random.default_rng(0)
    stripes = np.sin(np.arange(256) / 3)[None] + rng.standard_normal((256, 256))
    energies = [
        cell_texture(stripes, TextureOptions(64, edge_sigma=sigma), (256, 256))[0].mean() for sigma in (0.5, 1.0, 2.0)
    ]
    assert energies[0] < energies[1] < energies[2]


def test_small_regions_and_small_holes_go():
    tissue = np.zeros((256, 256), bool)
    tissue[40:60, 40:60] = True  # 400
    tissue[100:240, 60:240] = True
    tissue[150:176, 150:176] = False  # 676
    for least, region, hole in ((100, True, True), (250, True, True), (450, False, True), (900, False, False)):
        mask, confidence = em_texture_masking(embedded(tissue, noise=1), 12, min_region_size=least)
        assert mask[50, 50] == region, least
        assert mask[160, 160] != hole, least
        assert mask[120, 120]
        assert not mask[20, 200]
        np.testing.assert_array_equal(mask, confidence > 0.5)


def test_noise_alone_counts_as_one():
    """The scale that thresholds are on, for a volume of other shape and noise than it was measured with."""
    for shape, dtype in (((60, 70, 50), np.float32), ((300, 200), np.uint16)):
        noise = (1000 + 30 * np.random.default_rng(5).standard_normal(shape)).astype(dtype)
        energy, variance, *_ = cell_texture(noise, TextureOptions(64), shape)
        assert abs(energy.mean() - 2 * np.log(30)) < 0.05
        assert abs(variance.mean() - 2 * np.log(30)) < 0.05


def test_a_part_with_a_margin_has_the_cells_of_the_whole(recording):
    """The recording has blank voxels, and one part ends with the volume in a cut cell."""
    options = TextureOptions(48, 0.8, 0.7)
    recording = recording[:60, :61, :62].copy()
    recording[:20, :20, :20] = 7
    whole = cell_texture(recording, options, recording.shape)
    middle = slice(24, 33)
    edge = options.reach
    box = (slice(0, 33 + edge), slice(24 - min(24, edge), 61), slice(0, 62))
    core = (middle, slice(min(24, edge), 61 - 24 + min(24, edge)), slice(27, 62))
    part = cell_texture(recording[box], options, recording.shape, core)
    np.testing.assert_allclose(part, whole[:, 8:11, 8:, 9:], atol=2e-4)


@given(st.data())
@settings(max_examples=30)
def test_confidence_is_interpolated_between_the_middles_of_cells(data):
    """The oracle is numpy's interpolation along each axis; any box has the values of the whole."""
    shape = data.draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    options = TextureOptions(data.draw(st.integers(4, 96)))
    cells = [-(-n // options.cell) for n in shape]
    evidence = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=cells).astype(np.float32)
    expected = evidence.astype(float)
    for axis, n in enumerate(shape):
        middles = (np.arange(cells[axis]) + 0.5) * options.cell
        expected = np.apply_along_axis(
            lambda row, n=n, middles=middles: np.interp(np.arange(n) + 0.5, middles, row), axis, expected
        )
    whole = tissue_confidence(evidence, options, (0, 0), shape)
    np.testing.assert_allclose(whole, expected_confidence(expected), atol=1e-5)
    begin = [data.draw(st.integers(0, n - 1)) for n in shape]
    box = [data.draw(st.integers(1, n - b)) for n, b in zip(shape, begin, strict=True)]
    part = tissue_confidence(evidence, options, begin, box)
    np.testing.assert_array_equal(part, whole[tuple(slice(b, b + n) for b, n in zip(begin, box, strict=True))])


def expected_confidence(evidence):
    """T² / (T² + t²) of the log of T / t."""
    return np.exp(evidence) ** 2 / (np.exp(evidence) ** 2 + 1)


def test_the_threshold_splits_only_what_has_two_parts():
    rng = np.random.default_rng(0)
    resin, tissue = rng.normal(0, 0.1, 4000), rng.normal(2.5, 0.4, 1000)
    assert texture_threshold(resin) == texture_threshold(tissue) == np.log(NOISE)
    assert 0.8 < texture_threshold(np.concatenate([resin, tissue])) < 1.8
    # resin whose noise is no white noise, but much less than tissue
    assert 2.3 < texture_threshold(np.concatenate([resin + 1.5, tissue + 2])) < 4
    # tissue of two kinds
    assert texture_threshold(np.concatenate([tissue, tissue + 1])) == np.log(NOISE)
    assert texture_threshold(np.zeros(5)) == np.log(NOISE)


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (np.zeros((0, 4, 4)), r"shape \(0, 4, 4\) and dtype float64 has no texture"),
        (np.zeros((1, 1, 1)), r"shape \(1, 1, 1\)"),
        (np.zeros(8), r"axes \(z, y, x\) or \(y, x\)"),
        (np.zeros((2, 2, 2, 2)), r"\(2, 2, 2, 2\)"),
        (np.zeros((8, 8), complex), "dtype complex128"),
        (np.array([[1.0, np.nan], [np.inf, 2]]), "2 voxels are no finite numbers"),
    ],
)
def test_what_is_no_volume_is_refused(volume, message):
    with pytest.raises(ValueError, match=message):
        em_texture_masking(volume)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 0}, "block_size=0 has to be a whole number of voxels, at least 4"),
        ({"block_size": 8.5}, "block_size=8.5"),
        ({"min_region_size": 0}, "min_region_size=0 has to be a whole number of voxels, at least 1"),
        ({"texture_sigma": 0}, "texture_sigma=0 has to be a positive number of voxels"),
        ({"edge_sigma": -1.0}, r"edge_sigma=-1\.0"),
        ({"edge_sigma": float("nan")}, "edge_sigma=nan"),
    ],
)
def test_sizes_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        em_texture_masking(np.zeros((8, 8, 8)), **options)


LOST = {"one": [30], "four": [10, 25, 40, 55], "six in a row": [*range(30, 36)], "at the ends": [0, 1, 63]}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_lost_sections_change_the_mask_little(lost):
    true = blob((64, 96, 96))
    whole = embedded(true)
    recording = whole.copy()
    recording[lost] = 0
    mask, _ = em_texture_masking(recording, BLOCK)
    expected, _ = em_texture_masking(whole, BLOCK)
    assert overlap(mask, expected) > 0.95
    beside = [z for z in range(64) if z not in lost and any(abs(z - other) <= 3 for other in lost)]
    assert not expected[beside].any() or overlap(mask[beside], expected[beside]) > 0.9


def test_a_lost_section_is_the_mirror_image_of_those_beside_it():
    volume = np.random.default_rng(0).integers(1, 255, (30, 12, 12), dtype=np.uint8)
    recording = volume.copy()
    recording[0], recording[10:13], recording[20:29] = 7, 0, 9
    filled = fill_lost_sections(recording)
    expected = recording.copy()
    expected[0], expected[10:13] = volume[2], volume[[8, 7, 14]]
    np.testing.assert_array_equal(filled, expected)  # nine in a row were not recorded
