"""Pictures of sections, against colours worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scalenet_gp.nodes.learning.panels import class_colours, grey, overlay, side_by_side

SECTION = np.array([[0.0, 0.25, 1.0], [-1.0, 0.5, 2.0]])


def test_grey_shows_intensities_between_black_and_white() -> None:
    picture = grey(SECTION)
    assert picture.shape == (2, 3, 3)
    assert picture.dtype == np.float32
    for channel in range(3):
        np.testing.assert_array_equal(picture[..., channel], [[0, 0.25, 1], [0, 0.5, 1]])


def test_classes_have_colours_of_their_own_up_to_ten_and_then_again() -> None:
    colours = class_colours(12)
    assert colours.shape == (12, 3)
    assert len(np.unique(colours[:10], axis=0)) == 10
    np.testing.assert_array_equal(colours[10:], colours[:2])
    assert ((colours >= 0) & (colours <= 1)).all()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_one_class_is_mixed_into_the_background_by_its_value(value: float) -> None:
    (colour,) = class_colours(1)
    classes = np.full((1, 2, 3), value)
    background = grey(SECTION)
    kept = background.copy()
    np.testing.assert_allclose(overlay(classes), np.broadcast_to(value * colour, (2, 3, 3)), atol=1e-6)
    expected = background * (1 - 0.5 * value) + 0.5 * value * colour
    np.testing.assert_allclose(overlay(classes, background, opacity=0.5), expected, atol=1e-6)
    np.testing.assert_array_equal(background, kept)


def test_each_class_is_seen_where_it_is() -> None:
    classes = np.zeros((3, 1, 4))
    classes[[0, 1, 2], 0, [0, 1, 2]] = 1
    expected = np.concatenate([class_colours(3), np.zeros((1, 3))])[None]
    np.testing.assert_allclose(overlay(classes), expected, atol=1e-6)


def test_values_outside_zero_and_one_stay_within_the_colours() -> None:
    picture = overlay(np.array([[[-5.0, 7.0]]]), grey(np.array([[0.5, 0.5]])), opacity=1)
    np.testing.assert_allclose(picture, [[[0.5] * 3, class_colours(1)[0]]], atol=1e-6)


def test_pictures_stand_side_by_side_with_white_between() -> None:
    black, red = np.zeros((2, 3, 3), np.float32), np.tile(np.float32([1, 0, 0]), (2, 1, 1))
    row = side_by_side(black, red, gap=2)
    assert row.shape == (2, 3 + 2 + 1, 3)
    np.testing.assert_array_equal(row[:, :3], black)
    np.testing.assert_array_equal(row[:, 3:5], 1)
    np.testing.assert_array_equal(row[:, 5:], red)
    np.testing.assert_array_equal(side_by_side(black), black)
