from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from gunpowder import (
    Array,
    ArrayKey,
    ArraySpec,
    Batch,
    BatchRequest,
    PipelineRequestError,
    PipelineSetupError,
    Roi,
    build,
)
from scipy.stats import kstest

from scalenet_gp.nodes.augment.noise_augment import Noise, NoiseAugment
from scalenet_gp.nodes.testing import Field, RampSource

COARSE, FINE, SAME, FLAT = (ArrayKey(name) for name in ("COARSE", "FINE", "SAME", "FLAT"))
ALL = (COARSE, FINE, SAME)


def grey(centres: np.ndarray) -> np.ndarray:
    return np.full((1, *centres.shape[1:]), 0.5, dtype=np.float32)


def run(node: NoiseAugment, seed: int | None = 0, shape: int = 40, dtype: str = "float32") -> Batch:
    fields = {COARSE: 16, FINE: 4, SAME: 4}
    source = RampSource(
        {key: Field((2 * size, size, size), lambda c: grey(c).astype(dtype), True) for key, size in fields.items()}
    )
    request = BatchRequest(random_seed=seed)
    for key, size in fields.items():
        request[key] = Roi((0, 0, 0), (2 * size * shape, size * shape, size * shape))
    with build(source + node) as pipeline:
        return pipeline.request_batch(request)


def noise_of(batch: Batch, key: ArrayKey) -> np.ndarray:
    return batch[key].data.astype(float).ravel() - 0.5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_noise_is_gaussian_and_equally_strong_at_every_voxel_size(dtype: str) -> None:
    batch = run(NoiseAugment(ALL, 0.05, clip=False), dtype=dtype)
    for key in ALL:
        assert batch[key].data.dtype == dtype
        assert kstest(noise_of(batch, key) / 0.05, "norm").pvalue > 0.001


def test_with_a_reference_noise_is_as_weak_as_averaging_makes_it() -> None:
    batch = run(NoiseAugment(ALL, 0.08, (8, 4, 4), clip=False))
    fine = batch[FINE].data[0].reshape(10, 4, 10, 4, 10, 4)
    averaged = fine.mean((1, 3, 5)).std()
    assert noise_of(batch, FINE).std() == pytest.approx(0.08, rel=0.02)
    assert noise_of(batch, COARSE).std() == pytest.approx(0.08 / 8, rel=0.02)
    assert noise_of(batch, COARSE).std() == pytest.approx(averaged, rel=0.08)
    finer = run(NoiseAugment(ALL, 0.01, (32, 16, 16), clip=False))
    assert noise_of(finer, FINE).std() == pytest.approx(0.08, rel=0.02)


def test_arrays_are_noisy_independently_and_without_repetition() -> None:
    batch = run(NoiseAugment(ALL, 0.05, clip=False))
    values = {key: noise_of(batch, key) for key in ALL}
    count = len(values[FINE])
    for one, other in ((COARSE, FINE), (FINE, SAME), (COARSE, SAME)):
        assert abs(np.corrcoef(values[one], values[other])[0, 1]) < 5 / np.sqrt(count)
    assert len(np.unique(batch[FINE].data)) > 0.9 * count
    for lag in (1, 2, 1 << 14):
        assert abs(np.corrcoef(values[FINE][lag:], values[FINE][:-lag])[0, 1]) < 5 / np.sqrt(count - lag)
    neighbours = [noise_of(run(NoiseAugment(ALL, 0.05, clip=False, replay=record(seed))), FINE) for seed in (7, 8)]
    assert abs(np.corrcoef(*neighbours)[0, 1]) < 5 / np.sqrt(count)


def record(seed: int) -> str:
    return json.dumps({"sigma": 0.05, "seed": seed})


def test_strength_is_drawn_from_its_interval() -> None:
    node = NoiseAugment(ALL, (0.02, 0.1))
    generator = np.random.default_rng(0)
    drawn = [node.draw(generator, {}) for _ in range(1000)]
    assert kstest([d.sigma for d in drawn], "uniform", (0.02, 0.08)).pvalue > 0.01
    assert len({d.seed for d in drawn}) == 1000


@pytest.mark.parametrize("number", [1, 0.1, np.float32(0.25), np.int64(2)])
def test_one_number_is_both_bounds(number: float) -> None:
    assert NoiseAugment(ALL, number).sigma == (float(number), float(number))


def test_global_generators_are_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    run(NoiseAugment(ALL, 0.1))
    assert torch.equal(before, torch.get_rng_state())


def test_the_result_is_clipped_unless_told_otherwise() -> None:
    clipped, free = (run(NoiseAugment(ALL, 0.4, clip=clip))[FINE].data for clip in (True, False))
    assert free.min() < -0.5
    assert free.max() > 1.5
    np.testing.assert_array_equal(clipped, np.clip(free, 0, 1))


def test_values_outside_the_range_are_refused_where_they_would_be_clipped() -> None:
    bright = RampSource({FINE: Field((4, 4, 4), lambda centres: 3 * grey(centres), True)})
    request = BatchRequest()
    request[FINE] = Roi((0, 0, 0), (40, 40, 40))
    with build(bright + NoiseAugment([FINE], 0.1)) as pipeline, pytest.raises(PipelineRequestError, match=r"1\.5 to"):
        pipeline.request_batch(request)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": -0.1}, "0 <= low <= high"),
        ({"sigma": (0.2, 0.1)}, "low <= high"),
        ({"sigma": (0.1, np.nan)}, "sigma is"),
        ({"sigma": None}, r"sigma is None; write \(low, high\) with 0 <= low <= high"),
        ({"reference_voxel_size": (8, 0, 8)}, "lengths above 0"),
        ({"reference_voxel_size": (4.6, 4, 4)}, r"4\.6; write a whole number"),
        ({"reference_voxel_size": ()}, "lengths above 0"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseAugment(**{"arrays": ALL, "sigma": 0.1} | arguments)


def test_a_reference_of_other_axes_is_refused() -> None:
    with pytest.raises(PipelineSetupError) as error:
        run(NoiseAugment(ALL, 0.1, (8, 8)))
    assert "cannot be compared with reference_voxel_size=(8, 8)" in str(error.value.__cause__)


def test_the_number_of_threads_changes_no_bit() -> None:
    data = np.full((40, 50, 60), 0.5, np.float32)
    drawn = Noise(sigma=0.1, seed=3)
    made, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            spec = ArraySpec(Roi((0, 0, 0), (40, 50, 60)), (1, 1, 1))
            made.append(NoiseAugment([FINE], 0.1).apply(FINE, Array(data.copy(), spec), spec.roi, drawn))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])
    # neighbouring chunks are not the same noise
    flat = made[0].ravel() - 0.5
    assert abs(np.corrcoef(flat[:16384], flat[16384:32768])[0, 1]) < 0.05
