"""Tables of overlaps, and the metrics of partitions and of single objects, against voxels, pairs and peers."""

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from skimage.metrics import adapted_rand_error
from skimage.metrics import variation_of_information as skimage_voi

from scalenet_gp.errors import ArgumentError, DataError
from scalenet_gp.metrics.instances import contingency
from scalenet_gp.metrics.instances.clustering import adapted_rand, cremi_score, variation_of_information
from scalenet_gp.metrics.instances.contingency import ContingencyTable
from scalenet_gp.metrics.instances.matching import (
    IOU_THRESHOLDS,
    ObjectCounts,
    average_precision,
    match_objects,
    panoptic_quality,
)

BIG = np.array([0, 1, 2, 2**32, 2**32 + 1, 2**63, 2**64 - 1], np.uint64)
IDS = arrays(np.uint64, (3, 4, 5), elements=st.sampled_from(BIG.tolist()))
FEW = arrays(np.uint64, (2, 3, 4), elements=st.integers(0, 3))


def table_of(truth, segmentation, mask=None):
    table = ContingencyTable()
    table.update(np.asarray(truth), np.asarray(segmentation), mask)
    return table


def entries(table):
    """The table as a dictionary of pairs, which have to be in order and once each."""
    rows = list(zip(table.truth.tolist(), table.segmentation.tolist(), table.voxels.tolist(), strict=True))
    assert rows == sorted(rows)
    assert len(table) == len(rows)
    return {(true, predicted): voxels for true, predicted, voxels in rows}


def counted(truth, segmentation, mask):
    pairs = {}
    for voxel in np.ndindex(truth.shape):
        if mask[voxel]:
            pair = int(truth[voxel]), int(segmentation[voxel])
            pairs[pair] = pairs.get(pair, 0) + 1
    return pairs


@settings(deadline=None)
@given(IDS, IDS, arrays(bool, (3, 4, 5)), st.sampled_from([0, 2**16]), st.integers(1, 3))
def test_blocks_in_any_order_and_tables_that_are_merged_count_every_voxel_once(
    truth, segmentation, mask, pending, step
):
    before, contingency._PENDING = contingency._PENDING, pending
    try:
        blocks, other = ContingencyTable(), ContingencyTable()
        places = [(slice(z, z + step), slice(y, y + step)) for z, y in product(range(0, 3, step), range(0, 4, step))]
        for number, place in enumerate(reversed(places)):
            (other if number % 2 else blocks).update(truth[place], segmentation[place], mask[place])
        blocks.merge(other)
    finally:
        contingency._PENDING = before
    whole = table_of(truth, segmentation, mask)
    assert entries(blocks) == entries(whole) == counted(truth, segmentation, mask)


def test_memory_is_bounded_by_the_overlaps_and_not_by_the_blocks(monkeypatch):
    monkeypatch.setattr(contingency, "_PENDING", 50)
    table = ContingencyTable()
    ids = np.random.default_rng(0).integers(0, 3, (2, 100)).astype(np.uint8)
    for _ in range(200):
        table.update(*ids)
        assert table._pending <= 50
    assert len(table) == 9
    assert table.voxels.sum() == 200 * 100


def test_ids_of_any_whole_type_are_counted_and_others_are_refused():
    expected = {(0, 1): 1, (1, 1): 1, (1, 0): 1}
    for dtype in (bool, np.uint8, np.int16, np.int64, np.uint64):
        assert entries(table_of(np.array([0, 1, 1], dtype), np.array([1, 1, 0], np.uint32))) == expected
    with pytest.raises(DataError, match="the segmentation is of float64; ids have to be whole numbers"):
        table_of([1, 1], [0.5, 1])
    with pytest.raises(DataError, match="the truth has the id -1; ids are 0 or above"):
        table_of([1, -1], [1, 1])
    with pytest.raises(DataError, match=r"the truth has the shape \(2,\), the segmentation \(3,\); they have"):
        table_of([1, 1], [1, 1, 1])
    with pytest.raises(DataError, match=r"the mask \(1,\)"):
        table_of([1, 1], [1, 1], np.ones(1))


@settings(deadline=None)
@given(FEW, FEW)
def test_partitions_are_compared_as_scikit_image_does(truth, segmentation):
    table = table_of(truth, segmentation)
    voi, rand = variation_of_information(table), adapted_rand(table)
    if not truth.any():
        assert all(map(math.isnan, (voi.split, voi.merge, rand.error)))
        return
    split, merge = skimage_voi(truth.astype(int), segmentation.astype(int), ignore_labels=(0,))
    assert (voi.split, voi.merge) == pytest.approx((split, merge), abs=1e-12)
    with np.errstate(invalid="ignore"):
        # scikit-image 0.26 divides its precision by the pairs of the true image; its documentation says otherwise
        error, recall, precision = adapted_rand_error(truth.astype(int), segmentation.astype(int), ignore_labels=(0,))
    assert (rand.error, rand.precision, rand.recall) == pytest.approx((error, precision, recall), nan_ok=True)
    assert cremi_score(table) == pytest.approx(math.sqrt((split + merge) * error), nan_ok=True, abs=1e-7)


@given(arrays(int, 9, elements=st.integers(0, 2)), arrays(int, 9, elements=st.integers(0, 2)))
def test_the_adapted_rand_error_counts_pairs_of_voxels(truth, segmentation):
    both = true = predicted = 0
    for one, other in combinations(np.flatnonzero(truth), 2):
        in_truth, in_segmentation = truth[one] == truth[other], segmentation[one] == segmentation[other]
        both, true, predicted = both + (in_truth and in_segmentation), true + in_truth, predicted + in_segmentation
    rand = adapted_rand(table_of(truth, segmentation))
    assert rand.precision == pytest.approx(both / predicted if predicted else math.nan, nan_ok=True)
    assert rand.recall == pytest.approx(both / true if true else math.nan, nan_ok=True)
    expected = 1 - 2 * both / (true + predicted) if true + predicted else math.nan
    assert rand.error == pytest.approx(expected, nan_ok=True)


def test_the_variation_of_information_is_that_of_waterz():
    waterz = pytest.importorskip("waterz", reason="compares with it")
    truth, segmentation = np.random.default_rng(0).integers(0, 4, (2, 4, 5, 6)).astype(np.uint64)
    peer = waterz.evaluate(segmentation, truth)
    voi = variation_of_information(table_of(truth, segmentation))
    assert (voi.split, voi.merge) == pytest.approx((peer["voi_split"], peer["voi_merge"]), rel=1e-6)


def test_ten_teravoxels_do_not_overflow():
    table = ContingencyTable()
    table._add((np.array([1, 1, 2], np.uint64), np.array([1, 2, 2], np.uint64), np.array([4, 2, 4]) * 10**12))
    small = table_of(*np.repeat([[1, 1, 2], [1, 2, 2]], [4000, 2000, 4000], axis=1))
    assert adapted_rand(table).error == pytest.approx(adapted_rand(small).error, rel=1e-3)
    assert variation_of_information(table).total == pytest.approx(variation_of_information(small).total)
    assert match_objects(table, 0.6) == ObjectCounts(2, 0, 0)


def matched(truth, segmentation, threshold, strictly=False):
    """True, extra and missed objects, and the mean overlap of matched ones: the best of all assignments."""
    true, predicted = (np.unique(ids[ids > 0]) for ids in (truth, segmentation))
    iou = np.zeros((len(true), len(predicted)))
    for (i, t), (j, p) in product(enumerate(true), enumerate(predicted)):
        iou[i, j] = ((truth == t) & (segmentation == p)).sum() / ((truth == t) | (segmentation == p)).sum()
    enough = iou > threshold if strictly else iou >= threshold
    rows, columns = linear_sum_assignment(np.where(enough, -1 - iou, 0))
    found = iou[rows, columns][enough[rows, columns]]
    hits = len(found)
    return (hits, len(predicted) - hits, len(true) - hits), found.mean() if hits else math.nan


LINE = arrays(int, 24, elements=st.integers(0, 3)).map(np.sort)  # objects that overlap in long pieces
SHIFTED = st.tuples(LINE, LINE, st.integers(0, 23)).map(lambda drawn: (drawn[0], np.roll(drawn[1], drawn[2])))
HALVES = st.just((np.array([1, 1, 2, 2, 3, 3, 0]), np.array([7, 8, 5, 5, 5, 5, 0])))


@settings(deadline=None)
@given(st.one_of(SHIFTED, HALVES), st.sampled_from([*IOU_THRESHOLDS, 1]))
def test_objects_are_matched_as_by_the_best_assignment(drawn, threshold):
    truth, segmentation = drawn
    table = table_of(truth, segmentation)
    expected, _ = matched(truth, segmentation, threshold)
    assert match_objects(table, threshold) == ObjectCounts(*expected)
    each = [matched(truth, segmentation, at)[0] for at in IOU_THRESHOLDS]
    shares = [hits / sum(counts) if sum(counts := (hits, extra, missed)) else math.nan for hits, extra, missed in each]
    assert average_precision(table) == pytest.approx(np.mean(shares), nan_ok=True)
    (hits, extra, missed), overlap = matched(truth, segmentation, 0.5, strictly=True)
    quality = panoptic_quality(table)
    objects = hits + (extra + missed) / 2
    assert quality.segmentation_quality == pytest.approx(overlap, nan_ok=True)
    assert quality.recognition_quality == pytest.approx(hits / objects if objects else math.nan, nan_ok=True)
    summed = overlap * hits / objects if hits else 0.0 if objects else math.nan
    assert quality.quality == pytest.approx(summed, nan_ok=True)


def test_scores_of_single_objects_follow_from_their_counts():
    counts = ObjectCounts(3, 1, 2) + ObjectCounts(1, 0, 1)
    assert (counts.precision, counts.recall) == (4 / 5, 4 / 7)
    assert counts.f1 == pytest.approx(2 * counts.precision * counts.recall / (counts.precision + counts.recall))
    assert counts.average_precision == 4 / 8
    assert all(math.isnan(getattr(ObjectCounts(), name)) for name in ("precision", "recall", "f1", "average_precision"))


def test_a_perfect_segmentation_has_perfect_scores_whatever_its_ids():
    truth = np.random.default_rng(0).integers(0, 5, (4, 5, 6))
    table = table_of(truth, np.array([0, 9, 2**40, 3, 1])[truth])
    assert variation_of_information(table).total == adapted_rand(table).error == cremi_score(table) == 0
    assert average_precision(table) == panoptic_quality(table).quality == match_objects(table).f1 == 1


def test_without_objects_there_is_nothing_to_score_and_with_one_side_only_the_worst():
    nothing = table_of(np.zeros(4, int), np.zeros(4, int))
    for table in (ContingencyTable(), nothing):
        values = (variation_of_information(table).total, adapted_rand(table).error, cremi_score(table))
        assert all(map(math.isnan, (*values, average_precision(table), panoptic_quality(table).quality)))
    missed, extra = table_of([1, 1, 2], [0, 0, 0]), table_of([0, 0, 0], [1, 1, 2])
    for table in (missed, extra):
        assert average_precision(table) == panoptic_quality(table).quality == match_objects(table).f1 == 0
    assert variation_of_information(missed).merge > 0


def test_a_threshold_at_which_matches_are_not_unique_is_refused():
    for threshold in (0.49, 1.01, math.nan):
        with pytest.raises(ArgumentError, match=r"has to lie between 0\.5 and 1, so that matches are unique"):
            match_objects(table_of([1], [1]), threshold)
