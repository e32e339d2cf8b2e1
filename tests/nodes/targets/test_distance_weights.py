"""DistanceWeights against the formula, voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from gunpowder import ArrayKey, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.errors import ArgumentError, DataError
from scalenet_gp.geometry import World
from scalenet_gp.nodes import DistanceWeights
from scalenet_gp.nodes.chains import build_chain
from tests.nodes.targets.derived_arrays import Held, provided, request

LABELS, MASK, WEIGHTS = ArrayKey("DW_L"), ArrayKey("DW_M"), ArrayKey("DW")


def by_formula(labels: np.ndarray, known: np.ndarray, size: tuple[int, ...], sigma: float, share: float) -> np.ndarray:
    """Every voxel by itself; distances beyond four sigma do not count."""
    result = np.zeros(labels.shape)
    places = {label: np.argwhere((labels == label) & known) * size for label in set(labels.ravel().tolist()) - {0}}
    for voxel in map(tuple, np.argwhere(known)):
        here = np.multiply(voxel, size)
        ways = [np.linalg.norm(there - here, axis=1).min() for there in places.values() if len(there)]
        near = sorted(way for way in ways if way <= 4 * sigma)[:2]
        result[voxel] = 1 / (2 * share) if labels[voxel] else 1 / (2 * (1 - share))
        if len(near) == 2:
            result[voxel] += 10 * np.exp(-(sum(near) ** 2) / (2 * sigma**2))
    return result


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([6.0, 11.0]), st.booleans())
def test_weights_are_those_of_the_formula_also_beyond_the_request(seed: int, sigma: float, masked: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((8, 15)) < 0.08, rng.integers(2**40, 2**40 + 3, (8, 15)), 0)
    labels[3, 3], known = 7, rng.random((8, 15)) > 0.2 * masked
    size, options = (12, 8), {"sigma": sigma / 2, "world": World("1/2"), "share": 0.3, "unknown": 7}
    source = Held({LABELS: labels, MASK: known.astype(np.uint8)}, size, unbounded=True)
    node = DistanceWeights(LABELS, WEIGHTS, mask=MASK, **options)
    found = provided(source + node, DW=Roi((0, 0), (96, 120)))["DW"]
    assert found.dtype == np.float32
    expected = by_formula(labels, known & (labels != 7), size, sigma, 0.3)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)
    part = provided(source + node, DW=Roi((24, 40), (36, 24)))["DW"]
    np.testing.assert_array_equal(part, found[:, 2:5, 5:8])


def test_a_gap_weighs_more_the_narrower_it_is() -> None:
    labels = np.zeros((1, 1, 31), np.uint8)
    labels[..., :5], labels[..., 6:10], labels[..., 14:] = 1, 2, 3
    node = DistanceWeights(LABELS, WEIGHTS, 16, world=World(), w0=5)
    weights = provided(Held({LABELS: labels}, (8, 8), unbounded=True) + node, DW=Roi((0, 0), (8, 248)))["DW"][0, 0]
    assert weights[5] == pytest.approx(1 + 5 * np.exp(-(16**2) / (2 * 16**2)))
    assert weights[5] > weights[12] > weights[25] == 1


def test_what_does_not_fit_is_refused() -> None:
    for options, message in (
        ({"sigma": 0}, "sigma=0 nm"),
        ({"sigma": 8, "w0": -1}, "w0=-1"),
        ({"sigma": 8, "share": 1}, "share=1 "),
    ):
        with pytest.raises(ArgumentError, match=message):
            DistanceWeights(LABELS, WEIGHTS, world=World(), **options)
    source = Held({LABELS: np.ones((2, 9, 9), np.uint8)}, (8, 8), unbounded=True)
    with (
        pytest.raises(DataError, match="have 2 channels"),
        build_chain(source + DistanceWeights(LABELS, WEIGHTS, 8, world=World())) as chain,
    ):
        chain.request_batch(request(DW=Roi((0, 0), (24, 24))))
