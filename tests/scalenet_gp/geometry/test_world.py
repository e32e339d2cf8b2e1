"""Exact lengths and the integer world."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp import World
from scalenet_gp.geometry.world import common_unit, exact, exact_size, format_size

lengths = st.fractions(min_value=Fraction(1, 50), max_value=10_000, max_denominator=1000)


@pytest.mark.parametrize("length", [4.6, "4.6", "23/5", Fraction(23, 5), np.float64(4.6), np.float32(4.6)])
def test_what_a_user_writes_is_what_is_meant(length):
    assert exact(length) == Fraction(23, 5)


@pytest.mark.parametrize("length", [8, np.int64(8), np.uint8(8), 8.0, "8", "8e0"])
def test_whole_numbers_are_pythons(length):
    assert exact(length) == 8
    assert type(exact(length).numerator) is int


@pytest.mark.parametrize("length", [float("nan"), float("inf"), "8 nm", "", "1/0", None, [8], True])
def test_what_is_no_length_is_refused(length):
    with pytest.raises(ValueError, match=r"is not a finite length; write a number such as 8, 4\.6 or '23/5'") as caught:
        exact(length)
    assert repr(length) in str(caught.value)


@given(st.lists(st.tuples(lengths, lengths, lengths), min_size=1, max_size=4))
def test_every_size_is_whole_in_the_common_unit(sizes):
    unit = common_unit(sizes)
    assert unit.numerator == 1
    assert all((length / unit).denominator == 1 for size in sizes for length in size)
    denominators = {length.denominator for size in sizes for length in size}
    for divisor in {d for denominator in denominators for d in range(2, denominator + 1) if denominator % d == 0}:
        assert any((length / (unit * divisor)).denominator != 1 for size in sizes for length in size)


@pytest.mark.parametrize(
    ("sizes", "unit"),
    [([(8, 8, 8), (128, 32, 8)], 1), ([(50, 4.6, 4.6)], Fraction(1, 5)), ([("10/3", 2)], Fraction(1, 3))],
)
def test_the_common_unit(sizes, unit):
    assert common_unit(sizes) == unit


@given(st.data())
def test_there_and_back(data):
    dims = data.draw(st.integers(2, 3))
    begin, shape, origin = (tuple(data.draw(lengths) for _ in range(dims)) for _ in range(3))
    world = World(common_unit([begin, shape, origin]), origin)
    assert world.position_in_nm(world.position(begin)) == begin
    assert world.size_in_nm(world.size(shape)) == shape
    assert world.position(origin) == Coordinate((0,) * dims)
    roi = world.roi(begin, shape)
    assert world.position_in_nm(roi.end) == tuple(b + s for b, s in zip(begin, shape, strict=True))


def test_an_origin_between_the_voxels():
    """A voxel centre of an OME-Zarr file at 0 is half a voxel from the world's zero."""
    world = World(Fraction(1, 5), (-25, -2.2, -2.2))
    assert world.roi((0, 2.4, 7), (50, 4.6, 9.2)) == Roi((125, 23, 46), (250, 23, 46))
    assert world.position_in_nm(Coordinate(125, 11, 11)) == (0, 0, 0)


def test_what_does_not_fit_is_refused_and_a_unit_proposed():
    with pytest.raises(ValueError) as caught:
        World().size((50, 4.6, 4.6), "voxel size of 'raw'")
    assert str(caught.value) == (
        "voxel size of 'raw' 50 × 4.6 × 4.6 nm is not a whole number of world units of 1 nm; "
        "a world unit of 1/5 nm would fit"
    )
    assert World("1/5").size((50, 4.6, 4.6)) == Coordinate(250, 23, 23)
    with pytest.raises(ValueError, match=r"ROI begin .* nm is not a whole number"):
        World().roi((0.5, 0), (1, 1))
    with pytest.raises(ValueError, match=r"ROI shape 0.5 × 1 nm is not a whole number"):
        World().roi((0, 0), (0.5, 1))


def test_long_lengths_are_written_out():
    assert format_size(exact_size((123456.7, 4.6, 8))) == "123456.7 × 4.6 × 8"
    with pytest.raises(ValueError, match=r"123456\.7 nm is not a whole number"):
        World().size((123456.7,))


def test_a_wrong_world_is_refused():
    with pytest.raises(ValueError, match="the world unit is -1/5 nm; it has to be positive"):
        World(-0.2)
    with pytest.raises(ValueError, match="the world unit is 0 nm"):
        World(0)
    with pytest.raises(ValueError, match="the world's origin has 3 axes, this has 2"):
        World(origin=(0, 0, 0)).position((1, 1))
    with pytest.raises(ValueError, match="the world's origin has 3 axes, this has 2"):
        World(origin=(0, 0, 0)).position_in_nm(Coordinate(1, 1))


def test_worlds_are_values():
    assert World(0.2, (0.5, 1)) == World("1/5", ("1/2", 1.0))
    assert len({World(0.2), World("1/5"), World()}) == 2
    with pytest.raises(AttributeError):
        World().unit = Fraction(2)
