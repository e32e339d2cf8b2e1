from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from gunpowder import ArrayKey, Batch, BatchRequest, PipelineRequestError, Roi, build

from scalenet_gp.nodes.intensity_augment import IntensityAugment
from tests.nodes.ramps import Field, RampSource

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
    node = IntensityAugment([FINE], (0.5, 2), (-0.3, 0.3))
    generator = np.random.default_rng(0)
    scales, shifts = np.array([node.draw(generator) for _ in range(500)]).T
    assert 0.5 <= scales.min() < 0.52
    assert 1.98 < scales.max() <= 2
    assert -0.3 <= shifts.min() < -0.29
    assert 0.29 < shifts.max() <= 0.3
    records = [run(node, seed)[1][FINE].attrs["intensity"] for seed in (0, 0, 1, None, None)]
    assert records[0] == records[1]
    assert len(set(records)) == 4


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
    too_bright = RampSource({FINE: Field((8, 8), lambda centres: centres[0], True)})
    request = BatchRequest()
    request[FINE] = Roi((0, 0), (80, 80))
    with (
        build(too_bright + IntensityAugment([FINE])) as pipeline,
        pytest.raises(PipelineRequestError, match=r"intensities from 4\.0 to 76\.0"),
    ):
        pipeline.request_batch(request)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arrays": []}, "name the intensity arrays"),
        ({"scale": (2, 1)}, "low <= high"),
        ({"shift": (0, np.inf)}, "shift is"),
        ({"p": -0.1}, "between 0 and 1"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IntensityAugment(**{"arrays": [FINE]} | arguments)
