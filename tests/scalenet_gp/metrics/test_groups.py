"""Groups of exclusive classes against voxels and objects that are looked at one by one."""

import json
import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from scalenet_gp.metrics.groups import GroupCounts, GroupObjects

CLASSES = ("neuron", "glia", "vessel")
SHAPE = (4, 5, 3)


def drawn(seed):
    """Predicted values, some of them alike and some not numbers, targets and masks of three classes."""
    rng = np.random.default_rng(seed)
    values = rng.choice([0, 0.25, 0.5, 1, math.nan], p=[0.25, 0.25, 0.25, 0.22, 0.03], size=(3, *SHAPE))
    target = (rng.integers(0, 3, SHAPE) == np.arange(3)[:, None, None, None]) | (rng.random((3, *SHAPE)) < 0.05)
    return values, target.astype(np.uint8), (rng.random((3, *SHAPE)) < 0.95).astype(np.uint8)


def class_of(target, mask, voxel):
    """The only class of a voxel that is annotated for all; None if there is none."""
    members = [index for index in range(3) if target[(index, *voxel)]]
    return members[0] if len(members) == 1 and all(mask[(index, *voxel)] for index in range(3)) else None


def share(values, index):
    """The share by which a thing of class ``index`` is decided right."""
    if any(map(math.isnan, values)):
        return 0
    return int(values[index] == max(values)) / [*values].count(max(values))


def decided(things):
    """The counts of things, each as its class and its values."""
    total, right = [0] * 3, [0] * 3
    for index, values in things:
        total[index] += 1
        right[index] += share(values, index)
    return GroupCounts(CLASSES, tuple(total), pytest.approx(tuple(right)))


def same(counts, expected):
    return counts.total == expected.total and counts.right == expected.right


def objects_of(target, mask):
    """Objects as their class and voxels, each flooded from its first voxel."""
    kind = {voxel: class_of(target, mask, voxel) for voxel in product(*map(range, target.shape[1:]))}
    left = {voxel for voxel in kind if kind[voxel] is not None}
    while left:
        found = [min(left)]
        left.remove(found[0])
        for voxel in found:  # grows
            for axis, step in product(range(len(voxel)), (-1, 1)):
                other = (*voxel[:axis], voxel[axis] + step, *voxel[axis + 1 :])
                if other in left and kind[other] == kind[found[0]]:
                    left.remove(other)
                    found.append(other)
        yield kind[found[0]], found


@pytest.mark.parametrize("seed", range(5))
def test_voxels_are_decided_as_one_by_one(seed):
    prediction, target, mask = drawn(seed)
    voxels = [*product(*map(range, SHAPE))]
    known = [(index, prediction[(slice(None), *v)]) for v in voxels if (index := class_of(target, mask, v)) is not None]
    assert same(GroupCounts.of_voxels(CLASSES, prediction, target, mask), decided(known))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("block", [(4, 5, 3), (1, 1, 1), (3, 2, 2), (2, 5, 1)])
def test_objects_are_decided_as_one_by_one_whatever_the_blocks(block, seed):
    prediction, target, mask = drawn(seed)
    begins = [*product(*(range(0, length, step) for length, step in zip(SHAPE, block, strict=True)))]
    np.random.default_rng(seed).shuffle(begins)
    objects = GroupObjects(CLASSES)
    for begin in begins:
        box = (slice(None), *(slice(at, at + step) for at, step in zip(begin, block, strict=True)))
        objects.add(begin, prediction[box], target[box], mask[box])
    expected = [
        (index, [sum(prediction[(channel, *voxel)] for voxel in voxels) for channel in range(3)], len(voxels))
        for index, voxels in objects_of(target, mask)
    ]
    for smallest in (0, 2, Fraction(5, 2)):
        assert same(objects.counts(smallest), decided([(i, values) for i, values, n in expected if n >= smallest]))


def test_an_object_of_two_dimensions_is_one_across_blocks():
    """A ring: its halves touch at both ends."""
    ring = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]])
    target, prediction = np.stack([ring, 0 * ring]), np.stack([0.5 * ring, 0.4 * ring])
    objects = GroupObjects(("a", "b"))
    for column in range(4):
        part = (slice(None), slice(None), slice(column, column + 1))
        objects.add((7, 5 + column), prediction[part], target[part], np.ones((2, 3, 1)))
    assert objects.counts(10) == GroupCounts(("a", "b"), (1, 0), (1, 0))
    assert objects.counts(11) == GroupCounts.zero(("a", "b"))


def test_a_prediction_that_says_nothing_is_at_chance():
    target = np.eye(3)[:, :, None, None].repeat(4, axis=2)
    counts = GroupCounts.of_voxels(CLASSES, np.full(target.shape, 0.5), target, np.ones(target.shape))
    assert counts.total == (4, 4, 4)
    assert counts.accuracy == pytest.approx(1 / 3)


def test_recall_and_accuracy_follow_from_counts():
    counts = GroupCounts(CLASSES, (8, 4, 1), (6, 1, 0)) + GroupCounts(CLASSES, (0, 0, 1), (0, 0, 1))
    assert counts.recall == {"neuron": 0.75, "glia": 0.25, "vessel": 0.5}
    assert counts.accuracy == 0.5
    plain = json.loads(json.dumps(counts.to_json(), allow_nan=False))
    assert plain["accuracy"] == 0.5
    assert plain["classes"]["neuron"] == {"total": 8, "right": 6, "recall": 0.75}


def test_a_class_that_does_not_occur_leaves_no_accuracy_to_compare_with_chance():
    counts = GroupCounts(("neuron", "glia"), (8, 0), (6, 0))
    assert counts.recall["neuron"] == 0.75
    assert math.isnan(counts.recall["glia"])
    assert math.isnan(counts.accuracy)
    plain = json.loads(json.dumps(counts.to_json(), allow_nan=False))
    assert plain["accuracy"] is plain["classes"]["glia"]["recall"] is None


def test_a_scale_that_shows_no_object_has_no_recall():
    objects = GroupObjects(("neuron", "glia"))
    empty = np.zeros((2, 4, 4), np.uint8)
    objects.add((0, 0), empty.astype(np.float32), empty, np.ones_like(empty))
    assert objects.counts().total == (0, 0)
    assert all(np.isnan(value) for value in objects.counts().recall.values())
