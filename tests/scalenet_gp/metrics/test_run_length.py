"""Expected run length against random walks of points, counted edge by edge."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.errors import ArgumentError
from scalenet_gp.metrics.instances.run_length import expected_run_length


@st.composite
def reconstructions(draw):
    """Some trees, and the predicted id at each node."""
    parents = draw(st.lists(st.integers(-1, 8), min_size=1, max_size=10))
    edges = [(node, parent) for node, parent in enumerate(parents) if 0 <= parent < node]
    positions = draw(st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=len(parents), max_size=len(parents)))
    segments = draw(st.lists(st.integers(0, 3), min_size=len(parents), max_size=len(parents)))
    return np.array(positions) * 10.0, np.array(edges, int).reshape(-1, 2), np.array(segments), draw(st.integers(1, 2))


def by_edges(positions, edges, segments, merge_nodes):
    """Expected and best run length: the mean over edges, weighted by length, of the run about each."""
    whole = {node: frozenset([node]) for node in range(len(positions))}
    for one, other in edges.tolist():
        joined = whole[one] | whole[other]
        whole |= dict.fromkeys(joined, joined)
    shared = [
        {skeleton for skeleton in whole.values() if sum(segments[n] == s for n in skeleton) >= merge_nodes}
        for s in range(4)
    ]

    def is_correct(edge):
        one, other = (segments[node] for node in edge)
        return one == other != 0 and len(shared[one]) < 2

    def length(edge):
        return math.dist(*positions[list(edge)])

    total = expected = best = 0.0
    for edge in edges:
        same = [other for other in edges if whole[other[0]] == whole[edge[0]]]
        run = [other for other in same if is_correct(other) and segments[other[0]] == segments[edge[0]]]
        total += length(edge)
        best += length(edge) * sum(map(length, same))
        expected += length(edge) * sum(map(length, run)) if is_correct(edge) else 0
    return (expected / total, best / total) if total else (math.nan, math.nan)


@settings(deadline=None)
@given(reconstructions())
def test_it_is_the_mean_over_the_skeletons_of_the_run_about_each_point(drawn):
    positions, edges, segments, merge_nodes = drawn
    found = expected_run_length(positions, edges, segments, merge_nodes=merge_nodes)
    expected, best = by_edges(*drawn)
    assert (found.expected, found.best) == pytest.approx((expected, best), nan_ok=True)
    assert found.share == pytest.approx(expected / best if best == best else math.nan, nan_ok=True)


NODES = np.array([[0, 0, 0], [0, 0, 10], [0, 0, 30], [50, 0, 0], [50, 0, 40]])
EDGES = np.array([[0, 1], [1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("segments", "merge_nodes", "expected", "split", "merged"),
    [
        ([1, 1, 1, 2, 2], 1, (30 * 30 + 40 * 40) / 70, 0, 0),
        ([1, 1, 2, 3, 3], 1, (10 * 10 + 40 * 40) / 70, 20 / 70, 0),
        ([1, 1, 1, 1, 2], 1, 0, 40 / 70, 30 / 70),
        ([1, 1, 1, 1, 2], 2, 30 * 30 / 70, 40 / 70, 0),
        ([1, 1, 1, 1, 1], 2, 0, 0, 1),
        ([0, 0, 0, 0, 0], 1, 0, 1, 0),
        ([2**63, 2**63, 2**63, 2**64 - 1, 2**64 - 1], 1, (30 * 30 + 40 * 40) / 70, 0, 0),
    ],
)
def test_splits_and_merges_end_runs(segments, merge_nodes, expected, split, merged):
    found = expected_run_length(NODES, EDGES, np.array(segments, np.uint64), merge_nodes=merge_nodes)
    assert (found.expected, found.split, found.merged) == pytest.approx((expected, split, merged))
    assert (found.best, found.length) == pytest.approx(((30 * 30 + 40 * 40) / 70, 70))
    named = expected_run_length(NODES, EDGES, np.array(segments, np.uint64), np.array([9, 9, 9, 4, 4]), merge_nodes)
    assert named == found


def test_skeletons_without_length_have_no_run():
    found = expected_run_length(NODES, np.empty((0, 2)), np.ones(5, int))
    assert found.length == 0
    assert all(map(math.isnan, (found.expected, found.share)))
    assert math.isnan(expected_run_length(np.empty((0, 3)), [], []).best)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match=r"positions have the shape \(5, 3\), segments \(4,\)"):
        expected_run_length(NODES, EDGES, np.ones(4, int))
    with pytest.raises(ArgumentError, match="edges name the nodes 0 to 5, and there are 5, from 0 on"):
        expected_run_length(NODES, np.array([[0, 5]]), np.ones(5, int))
    with pytest.raises(ArgumentError, match="the edge of the nodes 1 and 2 joins the skeletons of different numbers"):
        expected_run_length(NODES, EDGES, np.ones(5, int), np.array([1, 1, 2, 2, 2]))
