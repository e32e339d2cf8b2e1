"""The challenge's metric against a slow twin that looks at every voxel and tries every matching."""

import math
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scalenet_gp.errors import ArgumentError, DataError
from scalenet_gp.metrics.cellmap.instances import (
    InstanceCounts,
    count_missing_instances,
    hausdorff_distance,
    match_instances,
    score_instances,
)
from scalenet_gp.metrics.cellmap.placement import CropGrid, closest_level, place_on_grid
from scalenet_gp.metrics.cellmap.rule import is_instance_class, most_components
from scalenet_gp.metrics.cellmap.scores import CellMapScores, count_missing_semantic, score_semantic
from scalenet_gp.metrics.confusion import ConfusionCounts

SHAPE = (3, 4, 5)
VOXELS = (5.24, 4, 3)
LABELS = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 1, 2, 3]))
MASKS = arrays(bool, SHAPE)


def components_of(labels):
    """Number components of equal ids by flooding, in memory order."""
    numbers, count = np.zeros(labels.shape, int), 0
    steps = [step for step in product((-1, 0, 1), repeat=3) if any(step)]
    for start in np.ndindex(labels.shape):
        if labels[start] and not numbers[start]:
            count += 1
            numbers[start], todo = count, [start]
            while todo:
                voxel = todo.pop()
                for step in steps:
                    other = tuple(a + b for a, b in zip(voxel, step, strict=True))
                    inside = all(0 <= a < n for a, n in zip(other, labels.shape, strict=True))
                    if inside and labels[other] == labels[start] and not numbers[other]:
                        numbers[other] = count
                        todo.append(other)
    return numbers, count


def best_matchings(components, count, truth):
    """All matchings of components to ids that cost the least, found by trying all of them."""
    ids = [int(number) for number in np.unique(truth) if number]
    costs = {}
    for number, component in product(ids, range(1, count + 1)):
        true, predicted = truth == number, components == component
        if (true & predicted).any():
            share = float(np.float32((true & predicted).sum() / (true | predicted).sum()))
            costs[number, component] = int((1 - share) * 1e6)
    best, found = math.inf, []
    for size in range(min(len(ids), count) + 1):
        for chosen in combinations(ids, size):
            for taken in permutations(range(1, count + 1), size):
                pairs = dict(zip(chosen, taken, strict=True))
                if all(pair in costs for pair in pairs.items()):
                    cost = sum(costs[pair] for pair in pairs.items()) + (len(ids) - size) * (10**6 + 1)
                    if cost < best:
                        best, found = cost, []
                    if cost == best:
                        found.append(pairs)
    return ids, found


def slow_distance(first, second, voxel_size):
    here, there = (np.argwhere(mask) * voxel_size for mask in (first, second))
    apart = np.linalg.norm(here[:, None] - there[None], axis=-1)
    return max(apart.min(axis=0).max(), apart.min(axis=1).max())


def slow_counts(prediction, truth, voxel_size, matching, components, count, ids):
    """The counts that follow from one matching."""
    limit = min(n * v / 2 for n, v in zip(truth.shape, voxel_size, strict=True))
    diagonal = math.sqrt(sum(v * v for v in voxel_size))
    renamed = np.zeros(truth.shape, int)
    for component in range(1, count + 1):
        matched = [number for number, taken in matching.items() if taken == component]
        renamed[components == component] = matched[0] if matched else component
    extra = count - len(matching)
    distances = [limit] * extra
    for number in ids:
        there = renamed == number
        apart = min(slow_distance(truth == number, there, voxel_size), limit) if there.any() else limit
        distances.append(float(np.float32(apart)))
    sums = sum(1.01 ** (-distance / diagonal) for distance in distances)
    return len(matching), extra, len(ids) - len(matching), sums, len(distances)


@pytest.mark.parametrize("dense", [0, 4])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prediction=LABELS, truth=LABELS, mask=st.none() | MASKS)
def test_counts_are_those_of_the_best_matching_of_all(monkeypatch, dense, prediction, truth, mask):
    monkeypatch.setattr("scalenet_gp.metrics.cellmap.instances._DENSE", dense)
    inside = [labels if mask is None else labels * mask for labels in (prediction, truth)]
    components, count = components_of(inside[0])
    if count > 5:
        return  # too many matchings to try
    ids, matchings = best_matchings(components, count, inside[1])
    counts = score_instances(prediction, truth, VOXELS, mask)
    found = match_instances(prediction, truth, VOXELS, mask)
    matching = {int(number): int(c) for number, c in zip(found.ids, found.matches, strict=True) if c}
    assert matching in matchings  # several can be equally good
    expected = slow_counts(*inside, VOXELS, matching, components, count, ids)
    assert (counts.true_positive, counts.false_positive, counts.false_negative) == expected[:3]
    assert counts.distance_scores == pytest.approx(expected[3], rel=1e-12)
    assert counts.distances == expected[4]


@pytest.mark.parametrize("few", [0, 1000])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=arrays(bool, (4, 5, 6)).filter(np.any),
    second=arrays(bool, (4, 5, 6)).filter(np.any),
    limit=st.floats(0.5, 60),
)
def test_distances_are_exact_and_end_at_the_limit(monkeypatch, few, first, second, limit):
    monkeypatch.setattr("scalenet_gp.metrics.cellmap.instances._FEW", few)
    exact = slow_distance(first, second, VOXELS)
    assert hausdorff_distance(first, second, VOXELS) == pytest.approx(exact, rel=1e-12)
    assert hausdorff_distance(second, first, VOXELS) == hausdorff_distance(first, second, VOXELS)
    assert hausdorff_distance(first, second, VOXELS, limit) == pytest.approx(min(exact, limit), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(LABELS, LABELS, st.permutations([1, 2, 3]), st.sampled_from([np.uint16, np.int64, np.uint64]))
def test_the_names_of_predicted_ids_do_not_matter(prediction, truth, names, dtype):
    renamed = np.array([0, *(name * 1000 for name in names)], dtype)[prediction]
    assert score_instances(renamed, truth, VOXELS) == score_instances(prediction, truth, VOXELS)


@settings(max_examples=20, deadline=None)
@given(LABELS)
def test_a_perfect_prediction_of_connected_objects_scores_one(labels):
    truth, count = components_of(labels)
    counts = score_instances(truth, truth, VOXELS)
    assert counts == InstanceCounts(count, 0, 0, float(count), count)
    missing = count_missing_instances(truth)
    assert missing == InstanceCounts(false_negative=count, distances=count)
    assert missing.combined == (0 if count else 1)


@settings(max_examples=20, deadline=None)
@given(LABELS, LABELS, MASKS)
def test_scores_lie_between_zero_and_one_and_ignore_masked_voxels(prediction, truth, mask):
    counts = score_instances(prediction, truth, VOXELS, mask)
    assert 0 <= counts.combined <= 1
    assert score_instances(np.where(mask, prediction, 7), truth, VOXELS, mask) == counts
    voxels = score_semantic(prediction, truth, mask)
    assert voxels == score_semantic(np.where(mask, prediction, 7), truth, mask)
    positive = (voxels.true_positive + voxels.false_positive, voxels.true_positive + voxels.false_negative)
    assert positive == ((mask & (prediction > 0)).sum(), (mask & (truth > 0)).sum())


def test_many_pairs_are_counted_in_parts_as_in_one(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 4, (2, 6, 7, 8), dtype=np.uint8)
    whole = score_instances(*labels, VOXELS)
    monkeypatch.setattr("scalenet_gp.metrics.cellmap.instances._VOXELS", 31)
    assert score_instances(*labels, VOXELS) == whole


def test_a_crop_with_too_many_components_or_pairs_is_skipped(monkeypatch):
    truth = np.zeros((9, 9, 9), np.uint8)
    truth[4, 4, 4] = 1
    dots = np.zeros_like(truth)
    dots[::2, ::2, ::2] = 1
    assert dots.sum() > most_components(1)
    assert score_instances(dots, truth, VOXELS) == InstanceCounts(skipped=1)
    assert score_instances(dots, truth * 40, VOXELS).false_positive == dots.sum() - 1
    assert score_instances(dots, truth * 0, VOXELS).false_positive == dots.sum()
    monkeypatch.setattr("scalenet_gp.metrics.cellmap.instances.MOST_PAIRS", 0)
    assert score_instances(truth, truth, VOXELS) == InstanceCounts(skipped=1)


def test_what_is_not_an_id_is_refused():
    ids = np.zeros((1, 1, 2), int)
    with pytest.raises(DataError, match="the prediction of an instance class is of float32; ids have to be whole"):
        score_instances(ids.astype(np.float32), ids, VOXELS)
    with pytest.raises(DataError, match="the truth has the id -2; ids are 0 or above"):
        score_instances(ids, ids - 2, VOXELS)
    for score in (lambda *arrays: score_instances(*arrays[:2], VOXELS, *arrays[2:]), score_semantic):
        with pytest.raises(DataError, match=r"shape \(1, 1, 1\), the truth \(1, 1, 2\); they have to be the same"):
            score(ids[..., :1], ids)
        with pytest.raises(DataError, match=r"the mask \(1, 1, 1\); they have to be the same"):
            score(ids, ids, ids[..., :1])


def test_scores_are_pooled_over_crops_and_averaged_over_classes():
    some, more = InstanceCounts(1, 1, 0, 1.5, 2), InstanceCounts(1, 0, 2, 1.0, 3, skipped=1)
    scores = CellMapScores.pool(
        [{"mito": some, "ecs": ConfusionCounts(1, 1, 0)}, {"mito": more, "pm": ConfusionCounts()}]
    )
    assert scores.instances == {"mito": InstanceCounts(2, 1, 2, 2.5, 5, 1)}
    assert scores.scores == pytest.approx({"mito": math.sqrt(4 / 7 * 0.5), "ecs": 0.5, "pm": 1.0})
    assert scores.overall == pytest.approx(math.sqrt(scores.scores["mito"] * 0.75))
    assert CellMapScores.pool([]).overall == 0
    plain = scores.to_json()
    assert plain["rule"] == "2026-06-30"
    assert plain["semantic"]["pm"]["iou"] == 1
    assert plain["instances"]["mito"]["combined"] == scores.scores["mito"]
    assert count_missing_semantic(np.zeros(SHAPE)) == ConfusionCounts(0, 0, 60)


def nearest(values, shape):
    """Nearest voxel by voxel."""
    result = np.empty(shape, values.dtype)
    for index in np.ndindex(shape):
        factors = [n / m for n, m in zip(values.shape, shape, strict=True)]
        result[index] = values[
            tuple(math.floor((i + 0.5) * k - 0.5 + 0.5) for i, k in zip(index, factors, strict=True))
        ]
    return result


@settings(max_examples=20, deadline=None)
@given(LABELS, st.tuples(*[st.sampled_from([2.0, 3.0, 4.0, 8.0])] * 3))
def test_ids_are_resampled_to_the_nearest(labels, voxel_size):
    shape = tuple(max(round(n * v / 4), 1) for n, v in zip(SHAPE, voxel_size, strict=True))
    grid = CropGrid((4, 4, 4), (0, 0, 0), shape)
    np.testing.assert_array_equal(place_on_grid(labels, grid, voxel_size, instances=True), nearest(labels, shape))


@settings(max_examples=25, deadline=None)
@given(LABELS, st.tuples(*[st.integers(-6, 6)] * 3), st.tuples(*[st.integers(1, 6)] * 3))
def test_an_offset_of_whole_voxels_moves_a_prediction(labels, offset, shape):
    grid = CropGrid((4, 4, 4), (400, 800, 1200), shape)
    position = tuple(400 * (1 + axis) + 4 * o for axis, o in enumerate(offset))
    placed = place_on_grid(labels, grid, (4, 4, 4), position, instances=True)
    for index in np.ndindex(shape):
        source = tuple(i - o for i, o in zip(index, offset, strict=True))
        inside = all(0 <= i < n for i, n in zip(source, SHAPE, strict=True))
        assert placed[index] == (labels[source] if inside else 0)


def test_a_prediction_without_voxel_size_is_cut_or_padded_about_its_middle():
    labels = np.arange(1, 7, dtype=np.uint8).reshape(1, 1, 6)
    for length, expected in ((3, [2, 3, 4]), (6, [1, 2, 3, 4, 5, 6]), (9, [0, 1, 2, 3, 4, 5, 6, 0, 0])):
        grid = CropGrid((4, 4, 4), (0, 0, 0), (1, 1, length))
        assert place_on_grid(labels, grid, instances=True)[0, 0].tolist() == expected


def test_values_are_interpolated_and_cut_at_a_half():
    grid = CropGrid((4, 4, 4), (0, 0, 0), (1, 1, 8))
    values = np.array([0.0, 1.0, 1.0, 0.2]).reshape(1, 1, 4)
    placed = place_on_grid(values, grid, (4, 4, 8), instances=False)
    assert placed[0, 0].tolist() == [False, False, True, True, True, True, False, False]


def test_grids_are_checked_and_rules_known():
    with pytest.raises(ArgumentError, match="same number of axes"):
        CropGrid((4, 4), (0, 0, 0), (1, 1, 1))
    with pytest.raises(ArgumentError, match="have to be positive"):
        CropGrid((4, 4, 0), (0, 0, 0), (1, 1, 1))
    assert is_instance_class("cell")
    assert not is_instance_class("ecs")
    sizes = [(2, 2, 2), (4, 4, 4), (16, 16, 16)]
    assert closest_level(sizes, (8, 8, 8)) == 1
    assert closest_level(sizes, (1, 1, 1), finer=True) == 0
