from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gunpowder import ArrayKey, Batch, BatchRequest, PipelineSetupError, Roi, build
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from scalenet_gp.nodes.augment.blur_augment import Blur, BlurAugment, blur_kernel
from scalenet_gp.nodes.testing import Field, RampSource, ramp
from scalenet_gp.testing import voxel_centers

COARSE, MIDDLE, FINE = (ArrayKey(name) for name in ("COARSE", "MIDDLE", "FINE"))
ALL = (COARSE, MIDDLE, FINE)
SIZES = {COARSE: 128, MIDDLE: 32, FINE: 8}


def blurred(
    sigma: Any, fields: dict[ArrayKey, Field], rois: dict[ArrayKey, Roi], seed: int = 0, replay: str | None = None
) -> tuple[Batch, RampSource]:
    source = RampSource(fields)
    request = BatchRequest(random_seed=seed)
    for key, roi in rois.items():
        request[key] = roi
    with build(source + BlurAugment(list(rois), sigma, replay=replay)) as pipeline:
        return pipeline.request_batch(request), source


@pytest.mark.parametrize("sigma", [(0, 0), (6, 40), (90, 90)])
@pytest.mark.parametrize("dims", [2, 3])
def test_ramps_stay_where_they_are(sigma: tuple[float, float], dims: int) -> None:
    rois = {
        key: Roi((-2 * size, 0, 3 * size)[:dims], (6 * size, 9 * size, 5 * size)[:dims]) for key, size in SIZES.items()
    }
    for seed in range(3):
        batch, _ = blurred(sigma, {key: ramp((size,) * dims) for key, size in SIZES.items()}, rois, seed)
        for key, roi in rois.items():
            moved = np.abs(batch[key].data - voxel_centers(roi, (SIZES[key],) * dims))
            assert moved.max() < 1e-6  # nm


def noise(seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Values that depend on the voxel alone, whatever ROI it is read in."""

    def values(centres: np.ndarray) -> np.ndarray:
        phase = np.tensordot([12.9898, 78.233, 37.719][: len(centres)], centres, 1)
        return (43758.5453 * np.sin(phase + seed) % 1).astype(np.float32)[np.newaxis]

    return values


def test_tiles_equal_the_whole_to_the_bit() -> None:
    fields = {FINE: Field((16, 8, 8), noise(0), True)}
    whole_roi = Roi((0, 0, 0), (256, 240, 160))
    whole, source = blurred((11, 11), fields, {FINE: whole_roi})
    for begin in ((0, 0, 0), (128, 80, 40), (224, 200, 120)):
        tile_roi = Roi(begin, (32, 40, 40))
        tile, _ = blurred((11, 11), fields, {FINE: tile_roi})
        np.testing.assert_array_equal(tile[FINE].data, whole[FINE].crop(tile_roi).data)
    margin = [size * (len(blur_kernel(11, size)) // 2) for size in (16, 8, 8)]
    assert margin == [48, 40, 40]
    assert source.requests[0][FINE].roi == whole_roi.grow(margin, margin)


def test_a_voxel_becomes_the_gaussian_mean_of_its_surroundings() -> None:
    """The oracle: voxels painted as boxes of 1 nm steps, and a Gaussian summed over those steps."""
    fields = {FINE: Field((20, 8), noise(1), True)}
    roi = Roi((0, 0), (200, 80))
    batch, _ = blurred([(30, 30), (5, 5)], fields, {FINE: roi})
    wide = noise(1)(voxel_centers(roi.grow((400, 160), (400, 160)), (20, 8)))[0].astype(float)
    expected = wide
    for axis, (size, sigma, grown) in enumerate(((20, 30.0, 20), (8, 5.0, 20))):
        painted = np.repeat(expected, size, axis=axis)
        steps = np.arange(painted.shape[axis]) + 0.5
        centres = (grown + np.arange((200, 80)[axis] // size) + 0.5) * size
        weights = np.exp(-((centres[:, None] - steps) ** 2) / 2 / sigma**2)
        weights /= weights.sum(axis=1, keepdims=True)
        expected = np.moveaxis(np.tensordot(weights, painted, (1, axis)), 0, axis)
    np.testing.assert_allclose(batch[FINE].data[0], expected, rtol=0, atol=5e-4)
    assert np.abs(expected - wide[20:-20, 20:-20]).max() > 0.1


@given(st.floats(0, 20))
def test_the_kernel_is_as_wide_as_the_gaussian_to_a_twelfth_of_a_voxel_squared(sigma: float) -> None:
    kernel = blur_kernel(sigma, 1)
    places = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel, kernel[::-1], rtol=1e-9)
    assert abs((kernel * places**2).sum() - sigma**2) <= 1 / 12 + 0.003 * sigma**2
    if sigma < 0.13:
        assert len(kernel) == 1


def cloudy(centres: np.ndarray) -> np.ndarray:
    """Structures of all sizes, the small ones weak, as in micrographs: waves of 40 to 2000 nm, their height as long."""
    generator = np.random.default_rng(0)
    values = np.zeros(centres.shape[1:])
    for length in np.geomspace(40, 2000, 60):
        angle, phase = generator.uniform(0, 2 * np.pi, size=2)
        along = np.cos(angle) * centres[0] + np.sin(angle) * centres[1]
        values += length**0.5 * np.sin(2 * np.pi * along / length + phase)
    return values


def averaged(data: np.ndarray, blocks: int) -> np.ndarray:
    return data.reshape(data.shape[0] // blocks, blocks, data.shape[1] // blocks, blocks).mean((1, 3))


@pytest.mark.parametrize("sigma", [4, 12, 24, 48])
@pytest.mark.parametrize(("coarse", "bound"), [(32, 0.015), (128, 0.04)])
def test_blurring_and_averaging_change_places_but_for_little(sigma: float, coarse: int, bound: float) -> None:
    roi = Roi((0, 0), (4096, 4096))

    def means(centres: np.ndarray) -> np.ndarray:
        begin = (centres[:, 0, 0] - coarse / 2).astype(int)
        fine = Roi(begin, np.array(centres.shape[1:]) * coarse)
        return averaged(cloudy(voxel_centers(fine, (8, 8))), coarse // 8)

    fields = {FINE: Field((8, 8), cloudy, True), COARSE: Field((coarse, coarse), means, True)}
    batch, _ = blurred((sigma, sigma), fields, {FINE: roi, COARSE: roi})
    wanted, plain = averaged(batch[FINE].data, coarse // 8), means(voxel_centers(roi, (coarse, coarse)))
    error = (batch[COARSE].data - wanted).std() / plain.std()
    assert error < bound
    if sigma >= coarse / 2:
        assert error < 0.4 * (plain - wanted).std() / plain.std()  # far better than leaving it
    else:
        assert error <= 1.05 * (plain - wanted).std() / plain.std()  # and never worse


def test_widths_are_drawn_from_their_intervals() -> None:
    fields = {FINE: Field((8, 8), noise(0), True)}
    roi = {FINE: Roi((0, 0), (16, 16))}

    def drawn(sigma: Any) -> np.ndarray:
        node = BlurAugment([FINE], sigma)
        with build(RampSource(fields) + node):
            generator = np.random.default_rng(0)
            return np.array([node.draw(generator, {}).sigma for _ in range(1000)])

    shared = drawn((2, 6))
    np.testing.assert_array_equal(shared[:, 0], shared[:, 1])
    assert kstest(shared[:, 0], "uniform", (2, 4)).pvalue > 0.01
    own = drawn([(2, 6), (10, 30)])
    assert kstest(own[:, 1], "uniform", (10, 20)).pvalue > 0.01
    assert abs(np.corrcoef(own.T)[0, 1]) < 0.1
    batch, _ = blurred([(3, 3), (7, 7)], fields, roi)
    assert json.loads(batch[FINE].attrs["blur"]) == {"sigma": [3, 7]}


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        ((6, 2), "low <= high"),
        ((-1, 2), "0 <= low"),
        (4, "or one such pair per spatial axis"),
        ([(1, 2), (2, 1)], "low <= high"),
        ((1, 2, 3), "or one such pair"),
        ((1, np.inf), "sigma is"),
        ([(1, 2), (1, 2, 3)], r"sigma is \[\(1, 2\), \(1, 2, 3\)\]; write \(low, high\), or one such pair"),
        ("wide", "sigma is 'wide'; write"),
    ],
)
def test_bad_widths_are_refused(sigma: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BlurAugment([FINE], sigma)


def test_a_record_of_other_axes_is_refused_when_the_pipeline_is_built() -> None:
    with pytest.raises(PipelineSetupError) as error:
        blurred((1, 2), {FINE: ramp((8, 8))}, {FINE: Roi((0, 0), (16, 16))}, replay=Blur(sigma=(1, 2, 3)).to_json())
    assert "replay has sigma=(1.0, 2.0, 3.0); there are 2 spatial axes" in str(error.value.__cause__)


def test_axes_have_to_agree() -> None:
    with pytest.raises(PipelineSetupError) as error:
        blurred([(1, 2)] * 3, {FINE: ramp((8, 8))}, {FINE: Roi((0, 0), (16, 16))})
    assert "arrays need 3 axes" in str(error.value.__cause__)
    mixed = {FINE: ramp((8, 8)), COARSE: ramp((8, 8, 8))}
    with pytest.raises(PipelineSetupError) as error:
        blurred((1, 2), mixed, {FINE: Roi((0, 0), (16, 16)), COARSE: Roi((0, 0, 0), (16, 16, 16))})
    assert "they have {FINE: 2, COARSE: 3}" in str(error.value.__cause__)
