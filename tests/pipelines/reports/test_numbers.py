"""The numbers of a report against what is written down by hand, scipy, and brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from scalenet_gp.errors import ArgumentError
from scalenet_gp.pipelines.reports import compare_with_reference, correct_by_holm
from scalenet_gp.pipelines.reports.places import BINS, Reliability
from scalenet_gp.pipelines.reports.scores import mean_and_deviation, shown
from scalenet_gp.pipelines.reports.training_log import TrainingLog, read_log


def holm_by_closure(p_values):
    """Holm's values by the closed tests of Bonferroni: the largest over all sets of hypotheses that hold the one."""
    indices = range(len(p_values))
    sets = [s for size in range(1, len(p_values) + 1) for s in itertools.combinations(indices, size)]
    return [max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets if index in s) for index in indices]


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.049, 0.3, 0.9, 1.0]) | st.floats(0, 1), max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    assert correct_by_holm(p_values) == pytest.approx(holm_by_closure(p_values), abs=0)


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=6))
def test_values_that_are_not_known_do_not_count(p_values):
    corrected = correct_by_holm(p_values)
    known = [p for p in p_values if not math.isnan(p)]
    assert [c for c in corrected if not math.isnan(c)] == correct_by_holm(known)
    assert [math.isnan(c) for c in corrected] == [math.isnan(p) for p in p_values]


def test_a_p_value_above_1_is_refused():
    with pytest.raises(ArgumentError, match=r"from 0 to 1, not 1\.5"):
        correct_by_holm([0.1, 1.5])


def signed_rank_p(differences):
    """The two-sided p of the signed-rank test by all assignments of signs; no ties, no zeros."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    seen = abs(ranks @ np.sign(differences))
    sums = [abs(ranks @ np.array(signs)) for signs in itertools.product((-1, 1), repeat=len(ranks))]
    return np.mean([value >= seen for value in sums])


def test_comparisons_are_those_of_scipy_and_of_all_assignments_of_signs():
    generator = np.random.default_rng(3)
    scores = {name: {n: generator.normal(shift) for n in range(8)} for name, shift in (("a", 0), ("b", 1), ("c", 2))}
    del scores["c"][5]
    scores["b"][6] = math.nan
    found = {one.model: one for one in compare_with_reference(scores, "a")}
    for name, keys in (("b", {0, 1, 2, 3, 4, 5, 7}), ("c", {0, 1, 2, 3, 4, 6, 7})):
        differences = np.array([scores[name][key] - scores["a"][key] for key in sorted(keys)])
        assert found[name].pairs == 7
        assert found[name].p_value == pytest.approx(signed_rank_p(differences))
        assert found[name].p_value == wilcoxon(differences, method="exact").pvalue
        assert found[name].difference == pytest.approx(np.median(differences))
        assert found[name].smallest == pytest.approx(2 * 2 / 2**7)
    assert [found[name].corrected for name in "bc"] == correct_by_holm([found[name].p_value for name in "bc"])


@pytest.mark.parametrize(("pairs", "too_few"), [(0, True), (5, True), (6, False)])
def test_too_few_pairs_are_told(pairs, too_few):
    values = {"a": dict.fromkeys(range(pairs), 0.0), "b": {n: 1.0 + n for n in range(pairs)}}
    (found,) = compare_with_reference(values, "a")
    assert (found.pairs, found.too_few) == (pairs, too_few)
    if pairs:
        assert found.p_value == found.smallest


def test_a_model_with_fewer_pairs_is_corrected_for_those_that_have_as_few():
    values = {
        "a": dict.fromkeys(range(12), 0.0),
        "b": {n: 1.0 + n for n in range(12)},
        "c": {n: 1.0 + n for n in range(5)},
    }
    many, few = compare_with_reference(values, "a")
    assert (many.smallest, few.smallest) == (2 * 2.0**-11, 2.0**-4)
    assert (many.corrected, few.corrected) == (many.smallest, few.smallest)


def test_models_that_are_the_same_have_no_p_value_and_an_unknown_reference_is_refused():
    same = {"a": {0: 0.5, 1: 0.25}, "b": {0: 0.5, 1: 0.25}}
    (found,) = compare_with_reference(same, "a")
    assert math.isnan(found.p_value)
    with pytest.raises(ArgumentError, match="the reference 'x' is not one of a, b"):
        compare_with_reference(same, "x")


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_reliability_is_that_of_a_loop_over_voxels(probabilities, random):
    present = [random.random() < 0.5 for _ in probabilities]
    found = Reliability.count_voxels(np.array(probabilities, np.float32), np.array(present))
    error = 0.0
    for number in range(BINS):
        inside = [
            (p, there)
            for p, there in zip(probabilities, present, strict=True)
            if number <= p * BINS < number + 1 or (number == BINS - 1 and p == 1)
        ]
        assert found.count[number] == len(inside)
        assert found.present[number] == sum(there for _, there in inside)
        error += abs(sum(p - there for p, there in inside))
    assert found.expected_error == pytest.approx(error / len(probabilities), abs=1e-6)
    half = len(probabilities) // 2
    parts = [
        Reliability.count_voxels(np.array(p, np.float32), np.array(t, bool))
        for p, t in ((probabilities[:half], present[:half]), (probabilities[half:], present[half:]))
    ]
    assert (parts[0] + parts[1]).expected_error == pytest.approx(found.expected_error)


def test_seconds_follow_from_the_rates():
    log = TrainingLog({"samples_per_second": [(2, 1.0), (4, 2.0)]}, batch_size=3)
    assert [log.seconds(at) for at in (0, 1, 2, 3, 4, 6)] == [0, 3, 6, 7.5, 9, 12]
    assert TrainingLog({}, 3).seconds(5) == 0
    assert TrainingLog(log.scalars, 3, each=0.5).seconds(4) == 2


def test_the_log_of_a_run_has_its_scalars(trained):
    log = read_log(trained / "log", batch_size=1)
    assert log.last == 4
    assert [at for at, _, _ in log.curve("loss/total")] == [1, 2, 3, 4]
    assert log.seconds(4) > log.seconds(1) > 0
    assert read_log(trained / "nothing", 1).last == 0


def test_deviations_are_those_of_the_sample():
    assert mean_and_deviation([1, 2, 4, math.nan])[:2] == pytest.approx((7 / 3, np.std([1, 2, 4], ddof=1)))
    assert shown([math.nan]) == "-"
