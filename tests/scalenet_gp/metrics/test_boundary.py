"""Boundary F1 against scikit-image's boundaries and the distances of all pairs of voxels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from skimage.segmentation import find_boundaries

from scalenet_gp.errors import ArgumentError, DataError
from scalenet_gp.metrics.instances.boundary import BoundaryCounts, count_boundaries

SIZE = (50, 8, 23)


def brute_force(truth, segmentation, tolerance):
    """The counts of whole arrays, by the distances of all pairs."""
    voxels = [np.argwhere(find_boundaries(ids, connectivity=1, mode="thick")) * SIZE for ids in (segmentation, truth)]
    if not all(map(len, voxels)):
        return BoundaryCounts(len(voxels[0]), 0, len(voxels[1]), 0)
    near = cdist(*voxels) <= tolerance + 1e-9
    return BoundaryCounts(len(voxels[0]), near.any(axis=1).sum(), len(voxels[1]), near.any(axis=0).sum())


def drawn_ids(seed, few):
    """Two volumes of ids in blocks of two voxels, so that boundaries are some voxels apart."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, few + 1, (2, 3, 4, 5)).astype(np.uint64)
    return ids.repeat(2, 1).repeat(2, 2).repeat(2, 3)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2), st.sampled_from([0, 8, 16, 23, math.hypot(8, 23), 50, 1e9]))
def test_counts_are_those_of_all_pairs(seed, few, tolerance):
    truth, segmentation = drawn_ids(seed, few)
    counts = count_boundaries(truth, segmentation, SIZE, tolerance)
    expected = brute_force(truth, segmentation, tolerance)
    assert counts == expected
    if expected.predicted and expected.true:
        precision, recall = expected.predicted_near / expected.predicted, expected.true_near / expected.true
        assert (counts.precision, counts.recall) == (precision, recall)
        both = precision + recall
        assert counts.f1 == pytest.approx(2 * precision * recall / both if both else 0)


def test_blocks_with_a_margin_add_up_to_the_whole():
    truth, segmentation = drawn_ids(0, 2)
    mask = np.random.default_rng(1).random(truth.shape) < 0.9
    whole = count_boundaries(truth, segmentation, SIZE, 24, mask)
    total = BoundaryCounts()
    for begin in range(0, truth.shape[1], 3):
        low, high = max(0, begin - 4), min(truth.shape[1], begin + 3 + 4)  # 24 nm are 3 voxels, and one more
        inner = (slice(None), slice(begin - low, begin - low + 3), slice(None))
        block = (array[:, low:high] for array in (truth, segmentation))
        total += count_boundaries(*block, SIZE, 24, mask[:, low:high], inner)
    assert total == whole
    assert 0 < whole.f1 < 1


def test_faces_to_voxels_without_annotation_are_no_boundaries():
    truth, segmentation = np.array([[1, 1, 2, 2]]), np.array([[1, 1, 1, 1]])
    mask = np.array([[1, 1, 0, 1]])
    assert count_boundaries(truth, segmentation, (8, 8), 8).true == 2
    assert count_boundaries(truth, segmentation, (8, 8), 8, mask) == BoundaryCounts()


def test_perfect_one_sided_and_empty_cases():
    truth = drawn_ids(0, 2)[0]
    assert count_boundaries(truth, truth, SIZE, 0).f1 == 1
    empty = np.zeros_like(truth)
    assert count_boundaries(truth, empty, SIZE, 8).f1 == count_boundaries(empty, truth, SIZE, 8).f1 == 0
    assert math.isnan(count_boundaries(empty, empty, SIZE, 8).f1)
    assert math.isnan(BoundaryCounts().precision)


def test_arguments_are_checked():
    with pytest.raises(ArgumentError, match="tolerance=-1 nm has to be 0 or above"):
        count_boundaries(np.ones((2, 2)), np.ones((2, 2)), (8, 8), -1)
    with pytest.raises(DataError, match=r"the truth has the shape \(2, 2\), the segmentation \(2, 3\)"):
        count_boundaries(np.ones((2, 2)), np.ones((2, 3)), (8, 8), 1)
