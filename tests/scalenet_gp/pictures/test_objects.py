"""Colors of objects: neighbours differ, what was found has the color of the truth."""

import numpy as np
import pytest
from skimage.segmentation import expand_labels

from scalenet_gp.pictures import color_objects


@pytest.fixture(scope="module")
def section():
    """Forty objects that touch, with gaps of two pixels between them."""
    rng = np.random.default_rng(0)
    seeds = np.zeros((90, 120), int)
    seeds[rng.integers(0, 90, 40), rng.integers(0, 120, 40)] = rng.permutation(1000)[:40] + 1
    grown = expand_labels(seeds, 200)
    inner = np.ones(grown.shape, bool)
    for axis in (0, 1):
        inner &= (np.roll(grown, 1, axis) == grown) & (np.roll(grown, -1, axis) == grown)
    return np.where(inner, grown, 0)


def test_every_object_has_one_color_and_neighbours_differ(section):
    (picture,) = color_objects(section)
    assert not picture[section == 0].any()
    colors = {number: np.unique(picture[section == number], axis=0) for number in np.unique(section)[1:]}
    assert {len(color) for color in colors.values()} == {1}
    assert all(color.any() for color in colors.values())
    for one, other in ((section[3:], section[:-3]), (section[:, 3:], section[:, :-3])):
        touch = (one != other) & (one > 0) & (other > 0)
        assert touch.any()
        for a, b in np.unique(np.stack([one[touch], other[touch]], axis=1), axis=0):
            assert (colors[a] != colors[b]).any()


def test_a_perfect_segmentation_looks_like_the_truth_whatever_its_ids(section):
    renumbered = np.where(section > 0, 5000 - section, 0)
    truth, found = color_objects(section, renumbered)
    np.testing.assert_array_equal(truth, found)


def test_of_a_split_object_the_largest_piece_has_its_color():
    truth = np.zeros((20, 30), int)
    truth[:, :18], truth[:, 20:] = 4, 6
    split = truth.copy()
    split[:5, :18] = 9
    true, found = color_objects(truth, split)
    np.testing.assert_array_equal(found[6:], true[6:])
    assert (found[0, 0] != true[0, 0]).any()


def test_of_merged_objects_the_largest_gives_its_color():
    truth = np.zeros((20, 30), int)
    truth[:, :18], truth[:, 20:] = 4, 6
    true, found = color_objects(truth, np.ones_like(truth))
    np.testing.assert_array_equal(found, np.broadcast_to(true[0, 0], found.shape))


def test_an_empty_section_is_black():
    for picture in color_objects(np.zeros((4, 5), int), np.zeros((4, 5), int)):
        np.testing.assert_array_equal(picture, np.zeros((4, 5, 3)))
