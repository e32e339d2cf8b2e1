"""Consistency of masks against counting plane by plane."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.metrics import ConfusionCounts, Consistency, VolumeFractions, compare_neighbours


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(4, 5, 6), (5, 7)]), st.integers(0, 1))
def test_neighbouring_planes_are_those_compared_one_by_one(seed, shape, more):
    mask = np.random.default_rng(seed).random([n + more for n in shape]) < 0.4
    within, across = ConfusionCounts(), ConfusionCounts()
    for axis, length in enumerate(shape):
        inner = mask[tuple(slice(0, n + more * (a == axis)) for a, n in enumerate(shape))]
        for index in range(inner.shape[axis] - 1):
            one, other = inner.take(index, axis), inner.take(index + 1, axis)
            counts = ConfusionCounts.count(one, other, np.ones_like(one))
            if index + 1 < length:
                within += counts
            else:
                across += counts
    assert compare_neighbours(mask, shape) == (within, across)
    if not more:
        assert across == ConfusionCounts()


def test_fractions_are_those_of_numpy():
    shares = np.random.default_rng(0).random(9)
    fractions = VolumeFractions(tuple(shares))
    assert fractions.mean == pytest.approx(shares.mean())
    assert fractions.deviation == pytest.approx(shares.std())
    assert fractions.variation == pytest.approx(shares.std() / shares.mean())
    assert math.isnan(VolumeFractions((0.0, 0.0)).variation)
    assert math.isnan(VolumeFractions().mean)


def test_numbers_that_are_not_defined_are_null():
    assert Consistency().to_json() == {
        **dict.fromkeys(("fraction", "fraction_deviation", "fraction_variation")),
        **dict.fromkeys(("dice_within_blocks", "dice_across_blocks")),
        "subvolumes": 0,
    }


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"a mask of the shape \(4, 4\) does not hold a block of \(2, 4\)"):
        compare_neighbours(np.ones((4, 4), bool), (2, 4))
