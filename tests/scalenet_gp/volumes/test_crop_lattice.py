"""Reading on foreign lattices against linear functions of space, and against voxels that are looked up one by one."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.errors import ArgumentError, LatticeError
from scalenet_gp.volumes import CropLattice, MultiscaleImage, read_on_lattice

SIZE = (Fraction("5.24"), Fraction(4), Fraction(4))
SHAPE = (7, 8, 9)
CORNER = (Fraction("-2.62"), Fraction(12), Fraction(0))
SLOPES = (0.5, -2.0, 0.25)

LENGTHS = st.sampled_from([Fraction(1), Fraction("1.74"), Fraction(2), Fraction(4), Fraction("5.24"), Fraction("10.1")])


def centres(lattice):
    return [
        [float(t + i * v) for i in range(n)]
        for t, v, n in zip(lattice.translation, lattice.voxel_size, lattice.shape, strict=True)
    ]


def ramp(lattice):
    z, y, x = np.meshgrid(*centres(lattice), indexing="ij")
    return SLOPES[0] * z + SLOPES[1] * y + SLOPES[2] * x


IMAGE = MultiscaleImage.from_arrays([ramp(CropLattice(SIZE, CORNER, SHAPE))], [SIZE], CORNER)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[LENGTHS] * 3), st.tuples(*[st.fractions(0, 1, max_denominator=50)] * 3))
def test_what_is_linear_in_space_stays_where_it_is(size, share):
    """The lattice keeps a voxel off the faces, so that nothing is read beyond them."""
    margins = [max(own, v) for own, v in zip(SIZE, size, strict=True)]
    corner = tuple(c + m + s * v for c, m, s, v in zip(CORNER, margins, share, size, strict=True))
    rooms = [c + n * own - m - b for c, n, own, m, b in zip(CORNER, SHAPE, SIZE, margins, corner, strict=True)]
    lattice = CropLattice(size, corner, tuple(max(int(room // v), 1) for room, v in zip(rooms, size, strict=True)))
    read = read_on_lattice(IMAGE, lattice, labels=False)
    np.testing.assert_allclose(read[0], ramp(lattice), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[LENGTHS] * 3), st.tuples(*[st.fractions(0, 1, max_denominator=50)] * 3))
def test_labels_are_those_of_the_voxel_that_holds_the_centre(size, share):
    labels = np.random.default_rng(0).integers(0, 9, SHAPE)
    image = MultiscaleImage.from_arrays([labels], [SIZE], CORNER)
    corner = tuple(c + s * v for c, s, v in zip(CORNER, share, size, strict=True))
    lattice = CropLattice(size, corner, (3, 3, 2))
    read = read_on_lattice(image, lattice, labels=True)[0]
    for index in product(*map(range, lattice.shape)):
        place = [
            (c + (i + Fraction(1, 2)) * v - begin) // own
            for c, i, v, begin, own in zip(corner, index, size, CORNER, SIZE, strict=True)
        ]
        assert read[index] == labels[tuple(min(int(p), n - 1) for p, n in zip(place, SHAPE, strict=True))]


def test_a_lattice_that_the_image_has_is_read_as_it_is():
    lattice = CropLattice(SIZE, CORNER, SHAPE)
    for labels in (True, False):
        np.testing.assert_array_equal(read_on_lattice(IMAGE, lattice, labels=labels)[0], ramp(lattice))
        parts = [read_on_lattice(IMAGE, lattice.planes(*ends), labels=labels)[0] for ends in ((0, 3), (3, 7))]
        np.testing.assert_array_equal(np.concatenate(parts), ramp(lattice))


def test_the_coarsest_level_that_is_fine_enough_is_read():
    levels = [np.full((n,) * 3, n, np.float32) for n in (16, 8, 4)]
    image = MultiscaleImage.from_arrays(levels, [(4,) * 3, (8,) * 3, (16,) * 3])
    for size, expected in ((2, 16), (4, 16), (10, 8), (16, 4), (20, 4)):
        lattice = CropLattice((size,) * 3, (0, 0, 0), (2, 2, 2))
        assert np.unique(read_on_lattice(image, lattice, labels=False)).tolist() == [expected]


def test_a_lattice_beyond_the_image_is_refused():
    begin = tuple(c - v for c, v in zip(CORNER, SIZE, strict=True))
    assert read_on_lattice(IMAGE, CropLattice(SIZE, begin, SHAPE), labels=True)[0, 0, 0, 0] == ramp(
        CropLattice(SIZE, CORNER, (1, 1, 1))
    )
    further = tuple(c - 2 * v for c, v in zip(CORNER, SIZE, strict=True))
    with pytest.raises(LatticeError, match=r"spans -2\.62 × 12 × 0 to .* the crop -13\.1 × 4 × -8 to .* not covered"):
        read_on_lattice(IMAGE, CropLattice(SIZE, further, SHAPE), labels=True)
    with pytest.raises(LatticeError, match="has 3 spatial axes, the crop 2"):
        read_on_lattice(IMAGE, CropLattice((4, 4), (0, 0), (1, 1)), labels=True)
    with pytest.raises(ArgumentError, match="have to have the same axes"):
        CropLattice((4, 4), (0, 0, 0), (1, 1, 1))
    with pytest.raises(ArgumentError, match="have to be positive"):
        CropLattice((4, 4, 4), (0, 0, 0), (1, 0, 1))
