"""The sweep of thresholds against counting at each of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scalenet_gp.metrics import SWEPT_THRESHOLDS, ConfusionCounts, ThresholdSweep

VALUES = arrays.arrays(
    np.float32, 12, elements=st.one_of(st.sampled_from([*SWEPT_THRESHOLDS, math.nan]), st.floats(0, 1, width=32))
)
FLAGS = arrays.arrays(np.uint8, 12, elements=st.integers(0, 1))


@given(st.lists(st.tuples(VALUES, FLAGS, FLAGS), min_size=1, max_size=3))
def test_a_sweep_has_the_counts_of_every_threshold(blocks):
    sweep = ThresholdSweep()
    for block in blocks:
        sweep.update(*block)
    values, target, mask = map(np.concatenate, zip(*blocks, strict=True))
    counts = {one: ConfusionCounts.count(values >= one, target > 0, mask > 0) for one in SWEPT_THRESHOLDS}
    assert {one: sweep.counts(one) for one in SWEPT_THRESHOLDS} == counts
    if not (target & mask).any():
        assert math.isnan(sweep.best)
        return
    dice = {one: of.scores["dice"] for one, of in counts.items()}
    best = [one for one in dice if dice[one] == max(dice.values())]
    assert sweep.best in best
    assert abs(sweep.best - 0.5) == min(abs(one - 0.5) for one in best)


def test_other_thresholds_were_not_swept():
    with pytest.raises(ValueError, match=r"threshold=0.505 was not swept"):
        ThresholdSweep().counts(0.505)
