from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from gunpowder import ArrayKey, Batch, BatchRequest, PipelineRequestError, Roi, build
from scipy.stats import kstest

from scalenet_gp.nodes.augment.intensity_augment import IntensityAugment
from scalenet_gp.nodes.testing import Field, RampSource

COARSE, FINE, LABELS = (ArrayKey(name) for name in ("COARSE", "FINE", "LABELS"))


def wave(dtype: str) -> Any:
    return lambda centres: (0.5 + 0.5 * np.sin(centres.sum(axis=0) / 100)).astype(dtype)


def source(dtype: str = "float32") -> RampSource:
    return RampSource(
        {
            COARSE: Field((32, 32), wave(dtype), True),
            FINE: Field((8, 8), wave(dtype), True),
            LABELS: Field((8, 8), lambda centres: centres[0].astype(np.uint64), False),
        }
    )


def run(node: IntensityAugment, seed: int | None = 0, dtype: str = "float32") -> tuple[Batch, Batch]:
    """The batch without and with the node."""
    batches = []
    for pipeline in (source(dtype), source(dtype) + node):
        request = BatchRequest(random_seed=seed)
        request[COARSE] = Roi((0, 0), (640, 640))
        request[FINE] = request[LABELS] = Roi((160, 200), (80, 240))
        with build(pipeline) as built:
            batches.append(built.request_batch(request))
    return batches[0], batches[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_draw_changes_all_arrays_alike_whatever_they_hold(dtype: str) -> None:
    before, after = run(IntensityAugment([COARSE, FINE], (0.5, 2), (-0.3, 0.3), clip=False), dtype=dtype)
    assert before[COARSE].data.mean() != pytest.approx(before[FINE].data.mean(), abs=0.01)
    drawn = [json.loads(after[key].attrs["intensity"]) for key in (COARSE, FINE)]
    assert drawn[0] == drawn[1]
    scale, shift = drawn[0]["scale"], drawn[0]["shift"]
    for key in (COARSE, FINE):
        assert after[key].data.dtype == dtype
        np.testing.assert_allclose(after[key].data, (before[key].data - 0.5) * scale + 0.5 + shift, atol=1e-6)
    np.testing.assert_array_equal(after[LABELS].data, before[LABELS].data)
    assert not after[LABELS].attrs


def test_the_default_changes_nothing() -> None:
    before, after = run(IntensityAugment([COARSE, FINE]))
    np.testing.assert_array_equal(after[FINE].data, before[FINE].data)


def test_draws_fill_their_intervals_and_follow_the_seed() -> None:
    node = IntensityAugment([FINE], (0.5, 2), (-0.3, 0.3), (0.25, 4))
    generator = np.random.default_rng(0)
    drawn = [node.draw(generator, {}) for _ in range(2000)]
    scales, shifts = np.array([(d.scale, d.shift) for d in drawn]).T
    assert 0.5 <= scales.min() < 0.52
    assert 1.98 < scales.max() <= 2
    assert -0.3 <= shifts.min() < -0.29
    assert 0.29 < shifts.max() <= 0.3
    octaves = np.log2([d.gamma for d in drawn])
    assert kstest(octaves, "uniform", (-2, 4)).pvalue > 0.01
    records = [run(node, seed)[1][FINE].attrs["intensity"] for seed in (0, 0, 1, None, None)]
    assert records[0] == records[1]
    assert len(set(records)) == 4


@pytest.mark.parametrize("gamma", [0.3, 0.5, 1.7, 3.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gamma_is_a_power_of_intensities_before_contrast(gamma: float, dtype: str) -> None:
    before, after = run(IntensityAugment([COARSE, FINE], (0.7, 0.7), (0.1, 0.1), (gamma, gamma)), dtype=dtype)
    for key in (COARSE, FINE):
        expected = (before[key].data.astype(float) ** gamma - 0.5) * 0.7 + 0.6
        np.testing.assert_allclose(after[key].data, expected, rtol=0, atol=2e-6 if dtype == "float32" else 1e-12)
        assert after[key].data.dtype == dtype


@pytest.mark.filterwarnings("error")
def test_gamma_keeps_black_and_white() -> None:
    ends = RampSource({FINE: Field((8, 8), lambda centres: (centres[0] > 40).astype(np.float32), True)})
    request = BatchRequest()
    request[FINE] = Roi((0, 0), (80, 80))
    with build(ends + IntensityAugment([FINE], gamma=(0.4, 0.4))) as pipeline:
        data = pipeline.request_batch(request)[FINE].data
    np.testing.assert_array_equal(np.unique(data), [0, 1])


@pytest.mark.parametrize("clip", [True, False])
def test_gamma_takes_what_rounding_put_beyond_black_as_black(clip: bool) -> None:
    below = RampSource({FINE: Field((8, 8), lambda centres: np.where(centres[0] > 40, 0.5, -1e-16), True)})
    request = BatchRequest()
    request[FINE] = Roi((0, 0), (80, 80))
    with build(below + IntensityAugment([FINE], gamma=(2, 2), clip=clip)) as pipeline:
        data = pipeline.request_batch(request)[FINE].data
    np.testing.assert_array_equal(np.unique(data), [0, 0.25])


@pytest.mark.parametrize("gamma", [0.5, 0.8, 1.0, 1.5, 2.5])
def test_coarse_voxels_are_the_mean_of_fine_ones_but_for_what_gamma_bends(gamma: float) -> None:
    """The bound of the docstring, measured on a ramp from 0.1 to 0.9 with four fine voxels in a coarse one."""

    def ramp(centres: np.ndarray) -> np.ndarray:
        return 0.1 + 0.8 * centres[0] / 640

    source = RampSource({COARSE: Field((32, 32), ramp, True), FINE: Field((8, 8), ramp, True)})
    request = BatchRequest()
    request[COARSE] = request[FINE] = Roi((0, 0), (640, 64))
    batches = []
    for node in (None, IntensityAugment([COARSE, FINE], (0.8, 0.8), gamma=(gamma, gamma))):
        with build(source if node is None else source + node) as pipeline:
            batches.append(pipeline.request_batch(request))
    before = batches[0][FINE].data.reshape(20, 4, 2, 4)
    mean_of_fine = batches[1][FINE].data.reshape(20, 4, 2, 4).mean((1, 3))
    too_high = batches[1][COARSE].data - mean_of_fine
    steepest = (before.min if gamma < 2 else before.max)((1, 3)) ** (gamma - 2)
    bound = 0.8 * abs(gamma * (gamma - 1)) / 2 * steepest * before.var((1, 3))
    assert (np.abs(too_high) <= bound + 1e-12).all()
    assert np.abs(too_high).max() < 3e-3
    if gamma == 1:
        assert np.abs(too_high).max() < 1e-12
    else:
        assert (np.sign(too_high) == np.sign(1 - gamma)).all()
        assert (np.abs(too_high) > 0.3 * bound).all()


def test_the_result_is_clipped_unless_told_otherwise() -> None:
    clipped = run(IntensityAugment([FINE], (3, 3)))[1][FINE].data
    assert (clipped.min(), clipped.max()) == (0, 1)
    free = run(IntensityAugment([FINE], (3, 3), clip=False))[1][FINE].data
    np.testing.assert_array_equal(clipped, np.clip(free, 0, 1))
    assert free.min() < -0.5


def test_p_leaves_batches_untouched() -> None:
    node = IntensityAugment([FINE], (0.5, 0.5), p=0.5)
    changed = sum("intensity" in run(node, seed)[1][FINE].attrs for seed in range(60))
    assert 15 < changed < 45
    before, after = run(IntensityAugment([FINE], (0.5, 0.5), p=0))
    np.testing.assert_array_equal(after[FINE].data, before[FINE].data)


def test_unfit_arrays_are_refused() -> None:
    with pytest.raises(PipelineRequestError, match="LABELS is of type uint64; put a Normalize node"):
        run(IntensityAugment([LABELS]))
    with pytest.raises(PipelineRequestError, match=r"or use DeformAugment\(normalize=True\)"):
        run(IntensityAugment([LABELS], clip=False))
    too_bright = RampSource({FINE: Field((8, 8), lambda centres: centres[0], True)})
    request = BatchRequest()
    request[FINE] = Roi((0, 0), (80, 80))
    for node in (IntensityAugment([FINE]), IntensityAugment([FINE], gamma=(0.5, 2), clip=False)):
        with (
            build(too_bright + node) as pipeline,
            pytest.raises(PipelineRequestError, match=r"intensities from 4\.0 to 76\.0"),
        ):
            pipeline.request_batch(request)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arrays": []}, "arrays is empty; name the arrays that IntensityAugment"),
        ({"scale": (2, 1)}, "low <= high"),
        ({"shift": (0, np.inf)}, "shift is"),
        ({"scale": None}, r"scale is None; write \(low, high\)"),
        ({"scale": ("a", "b")}, "scale is .*; write"),
        ({"gamma": (0, 1)}, "an exponent has to be above 0"),
        ({"p": -0.1}, "between 0 and 1"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IntensityAugment(**{"arrays": [FINE]} | arguments)
