"""Pictures of sections, against colors worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp.pictures.panels import (
    as_bytes,
    class_colors,
    class_legend,
    enlarge,
    outline,
    overlay,
    side_by_side,
    stack_rows,
    to_grey,
)

SECTION = np.array([[0.0, 0.25, 1.0], [-1.0, 0.5, 2.0]])


def test_grey_shows_intensities_between_black_and_white() -> None:
    picture = to_grey(SECTION)
    assert picture.shape == (2, 3, 3)
    assert picture.dtype == np.float32
    for channel in range(3):
        np.testing.assert_array_equal(picture[..., channel], [[0, 0.25, 1], [0, 0.5, 1]])


def test_classes_have_colors_of_their_own_up_to_ten_and_then_again() -> None:
    colors = class_colors(12)
    assert colors.shape == (12, 3)
    assert len(np.unique(colors[:10], axis=0)) == 10
    np.testing.assert_array_equal(colors[10:], colors[:2])
    assert ((colors >= 0) & (colors <= 1)).all()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_one_class_is_mixed_into_the_background_by_its_value(value: float) -> None:
    (color,) = class_colors(1)
    classes = np.full((1, 2, 3), value)
    background = to_grey(SECTION)
    kept = background.copy()
    np.testing.assert_allclose(overlay(classes), np.broadcast_to(value * color, (2, 3, 3)), atol=1e-6)
    expected = background * (1 - 0.5 * value) + 0.5 * value * color
    np.testing.assert_allclose(overlay(classes, background, opacity=0.5), expected, atol=1e-6)
    np.testing.assert_array_equal(background, kept)


def test_each_class_is_seen_where_it_is() -> None:
    classes = np.zeros((3, 1, 4))
    classes[[0, 1, 2], 0, [0, 1, 2]] = 1
    expected = np.concatenate([class_colors(3), np.zeros((1, 3))])[None]
    np.testing.assert_allclose(overlay(classes), expected, atol=1e-6)


def test_values_outside_zero_and_one_stay_within_the_colors() -> None:
    picture = overlay(np.array([[[-5.0, 7.0]]]), to_grey(np.array([[0.5, 0.5]])), opacity=1)
    np.testing.assert_allclose(picture, [[[0.5] * 3, class_colors(1)[0]]], atol=1e-6)


def test_pictures_stand_side_by_side_with_white_between() -> None:
    black, red = np.zeros((2, 3, 3), np.uint8), np.tile(np.uint8([255, 0, 0]), (2, 1, 1))
    row = side_by_side(black, red, gap=2)
    assert row.shape == (2, 3 + 2 + 1, 3)
    assert row.dtype == np.uint8
    np.testing.assert_array_equal(row[:, :3], black)
    np.testing.assert_array_equal(row[:, 3:5], 255)
    np.testing.assert_array_equal(row[:, 5:], red)
    np.testing.assert_array_equal(side_by_side(black), black)


def test_colors_become_the_nearest_bytes() -> None:
    np.testing.assert_array_equal(as_bytes(np.array([0, 0.4 / 255, 0.6 / 255, 0.5, 1])), [0, 0, 1, 128, 255])


def test_what_is_no_number_is_black_and_of_no_class() -> None:
    broken = np.array([[np.nan, np.inf, -np.inf]])
    np.testing.assert_array_equal(to_grey(broken)[0, :, 0], [0, 1, 0])
    background = to_grey(np.full((1, 3), 0.5))
    (color,) = class_colors(1)
    np.testing.assert_allclose(overlay(broken[None], background, opacity=1), [[[0.5] * 3, color, [0.5] * 3]])


def test_every_voxel_is_enlarged_to_a_square() -> None:
    picture = np.random.default_rng(0).random((2, 3, 3))
    large = enlarge(picture, 4)
    assert large.shape == (8, 12, 3)
    for y, x in np.ndindex(8, 12):
        np.testing.assert_array_equal(large[y, x], picture[y // 4, x // 4])
    np.testing.assert_array_equal(enlarge(picture, 1), picture)


edges = st.tuples(st.integers(-12, 24), st.integers(0, 24)).map(lambda edge: (edge[0], edge[0] + edge[1]))


@given(edges, edges, st.integers(1, 3))
def test_a_box_is_outlined_inside_its_edges(rows: tuple[int, int], columns: tuple[int, int], width: int) -> None:
    black = np.zeros((10, 12, 3), np.uint8)
    picture = outline(black, (rows, columns), "white", width)
    assert not black.any()
    for y, x in np.ndindex(10, 12):
        inside = rows[0] <= y < rows[1] and columns[0] <= x < columns[1]
        to_edge = min(y - rows[0], rows[1] - 1 - y, x - columns[0], columns[1] - 1 - x)
        assert (picture[y, x] == 255 * (inside and to_edge < width)).all()


def test_boxes_are_rounded_to_pixels_and_lines_have_a_color() -> None:
    picture = outline(np.zeros((6, 6, 3), np.uint8), ((0.6, 4.4), (2.4, 5.6)), "red", 1)
    drawn = np.argwhere(picture[..., 0])
    np.testing.assert_array_equal(drawn.min(axis=0), [1, 2])
    np.testing.assert_array_equal(drawn.max(axis=0), [3, 5])
    np.testing.assert_array_equal(picture[1, 2], [255, 0, 0])


def test_pictures_stand_above_one_another_with_white_beside() -> None:
    narrow, wide = np.zeros((2, 3, 3), np.uint8), np.full((1, 5, 3), 7, np.uint8)
    column = stack_rows(narrow, wide)
    assert column.shape == (3, 5, 3)
    np.testing.assert_array_equal(column[:2, :3], 0)
    np.testing.assert_array_equal(column[:2, 3:], 255)
    np.testing.assert_array_equal(column[2:], 7)


def test_the_legend_has_every_color_in_the_order_of_the_names() -> None:
    legend = class_legend(("mito", "er", "nucleus"), 800) / 255
    lefts = []
    for color in class_colors(3):
        found = np.argwhere(np.isclose(legend, color, atol=0.01).all(axis=-1))
        assert len(found) > 50
        lefts.append(found[:, 1].min())
    assert lefts == sorted(lefts)
    assert (legend[:, -1] == 1).all()  # nothing is cut off
    assert np.isclose(legend, 0, atol=0.05).all(axis=-1).any()  # the letters


def test_a_legend_takes_as_many_rows_as_fit() -> None:
    names = tuple(f"organelle {index}" for index in range(10))
    wide, narrow = class_legend(names, 2000), class_legend(names, 300)
    assert wide.shape[1] <= 2001
    assert narrow.shape[1] <= 301
    assert narrow.shape[0] > 3 * wide.shape[0]
    assert class_legend(("a long name of one class",), 20).shape[1] > 20
