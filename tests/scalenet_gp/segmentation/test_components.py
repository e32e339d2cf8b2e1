"""Components, holes, opening and measures against scipy's, and against counting by hand."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from scalenet_gp.segmentation import (
    BallClosing,
    BallOpening,
    ComponentsOptions,
    background_connectivity,
    connected_pairs,
    fill_holes,
    find_objects,
    join_fragments,
    label_components,
    look_up,
    measure_fragments,
    merge_fragments,
)

SHAPES = [(7, 6, 5), (1, 9, 9), (11, 12)]


def random_mask(seed, shape, density):
    return np.random.default_rng(seed).random(shape) < density


def neighbours(dims, connectivity):
    """Scipy's structure of a connectivity."""
    rank = {6: 1, 18: 2, 26: 3}[connectivity]
    return ndimage.generate_binary_structure(dims, min(rank, dims))


def ball(radius, voxel_size):
    """All offsets up to a radius, in exact numbers."""
    reach = [int(Fraction(radius) / size) for size in voxel_size]
    found = np.zeros([2 * n + 1 for n in reach], bool)
    for place in itertools.product(*(range(-n, n + 1) for n in reach)):
        inside = sum((p * size) ** 2 for p, size in zip(place, voxel_size, strict=True)) <= Fraction(radius) ** 2
        found[tuple(p + n for p, n in zip(place, reach, strict=True))] = inside
    return found


def opened(mask, radius, voxel_size):
    structure = ball(radius, voxel_size)
    return ndimage.binary_dilation(ndimage.binary_erosion(mask, structure, border_value=1), structure)


def closed(mask, radius, voxel_size):
    structure = ball(radius, voxel_size)
    wide = np.pad(mask, [(length, length) for length in structure.shape])
    inner = tuple(slice(length, -length) for length in structure.shape)
    return ndimage.binary_closing(wide, structure)[inner]


def numbered(labels):
    """Labels that count from 1 in the order of first voxels."""
    found, first = np.unique(labels[labels > 0], return_index=True)
    order = {label: number for number, label in enumerate(found[np.argsort(first)], start=1)}
    return np.vectorize(lambda label: order.get(label, 0), otypes=[int])(labels)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SHAPES), st.floats(0, 1), st.sampled_from([6, 18, 26]))
def test_components_are_those_of_scipy(seed, shape, density, connectivity):
    mask = random_mask(seed, shape, density)
    labels, count = label_components(mask, connectivity)
    expected, number = ndimage.label(mask, neighbours(len(shape), connectivity))
    assert count == number
    np.testing.assert_array_equal(numbered(labels), numbered(expected))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(SHAPES),
    st.sampled_from([0, 3, 4, "4.6", 9, "9.2", 12, "13.01", 20]),
    st.sampled_from([(4, 4, 4), (40, 4, 4), ("10", "4.6", "4.6"), (8, 4, "2.5")]),
)
def test_opening_and_closing_are_those_by_a_ball(seed, shape, radius, sizes):
    size = tuple(Fraction(length) for length in sizes[-len(shape) :])
    mask = ndimage.binary_dilation(random_mask(seed, shape, 0.2))
    np.testing.assert_array_equal(BallOpening(Fraction(radius), size)(mask), opened(mask, radius, size))
    gaps = random_mask(seed, shape, 0.4)
    np.testing.assert_array_equal(BallClosing(Fraction(radius), size)(gaps), closed(gaps, radius, size))


def test_the_margin_of_an_opening_is_enough():
    size, radius = (Fraction(10), Fraction(4), Fraction(4)), Fraction(10)
    opening = BallOpening(radius, size)
    assert opening.margin == (2, 4, 4)
    mask = ndimage.binary_dilation(random_mask(5, (14, 20, 20), 0.1), iterations=2)
    whole, part = opening(mask), opening(mask[2:12, 3:17, 3:17])
    np.testing.assert_array_equal(part[2:-2, 4:-4, 4:-4], whole[4:10, 7:13, 7:13])


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("shape", SHAPES)
def test_holes_are_those_of_scipy(shape, connectivity):
    mask = random_mask(1, shape, 0.7)
    assert background_connectivity(connectivity) == (26 if connectivity == 6 else 6)
    structure = neighbours(len(shape), background_connectivity(connectivity))
    filled = fill_holes(mask, connectivity, mask.size)
    np.testing.assert_array_equal(filled, ndimage.binary_fill_holes(mask, structure))
    small = fill_holes(mask, connectivity, 1)
    assert mask.sum() <= small.sum() <= filled.sum()
    labels, count = ndimage.label(~small & filled, structure)
    assert count == 0 or np.bincount(labels.ravel())[1:].min() > 1


def test_objects_in_one_piece():
    mask = np.zeros((5, 9, 9), bool)
    mask[1:4, 1:6, 1:6] = True
    mask[2, 3, 3] = False  # a hole
    mask[2, 8, 8] = True  # too small
    size = (Fraction(8),) * 3
    options = ComponentsOptions(holes=8**3, opening=8, smallest=10 * 8**3)
    found = find_objects(mask, size, options)
    assert found.max() == 1
    assert found[2, 3, 3] == 1
    assert not found[1, 1, 1]  # a corner, into which no ball fits
    assert find_objects(mask, size, ComponentsOptions()).max() == 2
    assert find_objects(np.zeros((2, 2, 2), bool), size, options).max() == 0


@pytest.mark.parametrize("dims", [2, 3])
def test_measures_are_those_counted_by_hand(dims):
    shape, begin, corner = (6, 5, 4)[-dims:], (3, 2, 7)[-dims:], (20, 10, 30)[-dims:]
    labels, count = label_components(random_mask(3, shape, 0.3), 6)
    values = np.random.default_rng(0).random(shape, np.float32)
    rows = measure_fragments(labels, count, values, begin, corner, base=100)
    assert rows["id"].tolist() == list(range(101, 101 + count))
    for row in rows:
        where = np.argwhere(labels == row["id"] - 100) + begin
        assert row["voxels"] == len(where)
        np.testing.assert_array_equal(row["begin"], where.min(axis=0))
        np.testing.assert_array_equal(row["end"], where.max(axis=0) + 1)
        np.testing.assert_array_equal(row["places"], where.sum(axis=0))
        assert row["first"] == min(np.ravel_multi_index(tuple(place), corner) for place in where)
        assert row["values"] == pytest.approx(values[labels == row["id"] - 100].sum(dtype=float))
    objects, number = join_fragments(rows["id"], np.array([[101, 103], [103, 104]], np.uint64))
    assert number == count - 2
    merged = merge_fragments(rows, objects, number)
    joined = merged[objects[0]]
    parts = rows[[0, 2, 3]]
    assert joined["voxels"] == parts["voxels"].sum()
    np.testing.assert_array_equal(joined["begin"], parts["begin"].min(axis=0))
    np.testing.assert_array_equal(joined["end"], parts["end"].max(axis=0))
    np.testing.assert_array_equal(joined["places"], parts["places"].sum(axis=0))
    assert joined["first"] == parts["first"].min()


def test_tables_look_up_what_they_hold():
    labels = np.array([[0, 7, 2**60], [7, 3, 9]], np.uint64)
    found = look_up(labels, np.array([7, 9, 2**60], np.uint64), np.array([300, 0, 1], np.uint16))
    assert found.tolist() == [[0, 300, 1], [300, 0, 0]]
    assert look_up(labels, np.empty(0, np.uint64), np.empty(0, np.uint8)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_planes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"shapes \(2, 2\) and \(2, 2\)"):
        connected_pairs(np.ones((2, 2), int), np.ones((2, 2), int), 6)
    with pytest.raises(ValueError, match="connectivity=4 has to be 6, 18 or 26"):
        label_components(np.ones((2, 2), bool), 4)


def test_options_below_zero_are_refused():
    with pytest.raises(ValueError, match=r"smallest.*has to be 0 or more"):
        ComponentsOptions(smallest=-1)
