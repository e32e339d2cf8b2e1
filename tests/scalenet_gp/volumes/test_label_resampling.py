"""Labels at voxels of any size and place, against sums of the volumes of all stored voxels, one by one."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.geometry import World
from scalenet_gp.geometry.world import exact_size
from scalenet_gp.volumes import ClassVoxels, MultiscaleImage, StoredGrid, class_majority, known_majority
from scalenet_gp.volumes.label_resampling import volume_mode

lengths = st.builds(Fraction, st.integers(1, 9), st.integers(1, 9)).filter(lambda n: Fraction(1, 4) <= n <= 3)
shifts = st.fractions(0, 1, max_denominator=12).filter(lambda n: n < 1)


def covering(begin, end, length, shift):
    """The place of the first of the stored voxels that cover an interval, and their number."""
    first = (begin + shift) // length * length - shift
    return first, -int((first - end) // length)


def stored_axes(draw, box):
    length = tuple(draw(lengths) for _ in box)
    places = [covering(*ends, n, draw(shifts) * n) for ends, n in zip(box, length, strict=True)]
    return StoredGrid(tuple(first for first, _ in places), length), tuple(count for _, count in places)


def overlaps(voxel, grid, shape):
    """Every stored voxel with the volume that it shares with a served one."""
    for index in itertools.product(*map(range, shape)):
        volume = Fraction(1)
        for v, i, begin, length in zip(voxel, index, grid.begin, grid.length, strict=True):
            low = begin + i * length
            volume *= max(min(low + length, v + 1) - max(low, v), 0)
        yield index, volume


@st.composite
def labelled_boxes(draw, dims=2):
    box = tuple((b, b + draw(st.integers(1, 3))) for b in (draw(st.integers(-3, 3)) for _ in range(dims)))
    grid, shape = stored_axes(draw, box)
    return box, grid, np.random.default_rng(draw(st.integers(0, 2**32 - 1))), shape


@given(labelled_boxes())
def test_the_mode_is_the_label_of_the_largest_volume(drawn):
    box, grid, rng, shape = drawn
    data = rng.choice(np.array([0, 3, 2**40], np.int64), (2, *shape))
    served = volume_mode(data, grid, box)
    assert served.dtype == data.dtype
    for channel, *voxel in itertools.product(range(2), *(range(*ends) for ends in box)):
        volumes = {}
        for index, volume in overlaps(voxel, grid, shape):
            label = int(data[(channel, *index)])
            volumes[label] = volumes.get(label, 0) + volume
        expected = min(label for label, volume in volumes.items() if volume == max(volumes.values()))
        assert served[(channel, *(v - b for v, (b, _) in zip(voxel, box, strict=True)))] == expected


@settings(max_examples=30)
@given(labelled_boxes(dims=3), st.sampled_from([0.4, 0.7, 1.0]))
def test_presence_is_the_majority_of_the_known_volume(drawn, share):
    box, grid, rng, shape = drawn
    known = rng.random(shape) < share
    present = known & (rng.random(shape) < 0.5)
    there, target, mask = class_majority([ClassVoxels(box, present, known, grid)])
    assert there == box
    assert target.dtype == mask.dtype == np.uint8
    for voxel in itertools.product(*(range(*ends) for ends in box)):
        of_known = sum(volume for index, volume in overlaps(voxel, grid, shape) if known[index])
        of_present = sum(volume for index, volume in overlaps(voxel, grid, shape) if present[index])
        at = tuple(v - b for v, (b, _) in zip(voxel, box, strict=True))
        assert mask[at] == (2 * of_known >= 1)
        assert target[at] == (2 * of_known >= 1 and 2 * of_present > of_known)


@settings(max_examples=50)
@given(st.data())
def test_classes_of_several_lattices_are_joined_place_by_place(data):
    """Two classes with boxes and voxels of their own: what a fine common lattice has, voxel by voxel."""
    axes = [((0, 3), (1, 3)), ((-1, 1), (-2, 1))]
    complete = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    classes = []
    for box in zip(*axes, strict=True):
        length = [data.draw(st.sampled_from([Fraction(1, 2), Fraction(2, 3), Fraction(3, 2)])) for _ in box]
        places = [covering(*ends, n, Fraction(data.draw(st.integers(0, 1)), 3)) for ends, n in zip(box, length)]  # noqa: B905
        shape = tuple(count for _, count in places)
        known = rng.random(shape) < 0.8
        present = known & (rng.random(shape) < 0.4)
        grid = StoredGrid(tuple(first for first, _ in places), tuple(length))
        classes.append(ClassVoxels(box, present, known, grid))
    box, target, mask = class_majority(classes, complete=complete)
    assert box == ((0, 3), (-2, 1))
    for voxel in itertools.product(*(range(*ends) for ends in box)):
        votes = []
        for part in itertools.product(range(6), repeat=2):  # of 1/6 voxel, which all places above are multiples of
            at = [v + Fraction(2 * p + 1, 12) for v, p in zip(voxel, part, strict=True)]
            present, known = zip(*(state(one, voxel, at) for one in classes), strict=True)
            votes.append((any(present), any(present) or (all(known) and complete)))
        of_known, of_present = (sum(vote[kind] for vote in votes) for kind in (1, 0))
        index = tuple(v - b for v, (b, _) in zip(voxel, box, strict=True))
        assert mask[index] == (2 * of_known >= 36)
        assert target[index] == (2 * of_known >= 36 and 2 * of_present > of_known)


def state(one, voxel, at):
    """Return whether a class is present at a place, and whether that is known."""
    if not all(b <= v < e for v, (b, e) in zip(voxel, one.box, strict=True)):
        return False, False
    index = tuple(int((a - b) // n) for a, b, n in zip(at, one.grid.begin, one.grid.length, strict=True))
    return bool(one.present[index]), bool(one.known[index])


@given(factor=st.tuples(*[st.integers(1, 3)] * 3), seed=st.integers(0, 2**32 - 1))
def test_whole_voxels_are_counted_as_ever(factor, seed):
    rng = np.random.default_rng(seed)
    known = rng.random(np.multiply(factor, 2)) < 0.7
    present = known & (rng.random(known.shape) < 0.5)
    box = ((4, 6), (0, 2), (-1, 1))
    grid = StoredGrid(tuple(Fraction(b) for b, _ in box), tuple(Fraction(1, f) for f in factor))
    one = ClassVoxels(box, present, known, grid)
    expected = known_majority(present, known, factor)
    for found in (class_majority([one])[1:], class_majority([one, one])[1:]):
        np.testing.assert_array_equal(found, expected)
    # cells that a second lattice cuts, of a class that is absent everywhere: its votes change nothing
    thirds = StoredGrid(grid.begin, tuple(Fraction(2, 3 * f) for f in factor))
    shape = tuple(3 * f for f in factor)
    other = ClassVoxels(box, np.zeros(shape, bool), np.ones(shape, bool), thirds)
    np.testing.assert_array_equal(class_majority([one, other])[1:], expected)


SIZES = [("5.24", 4, 4), ("2.62", 2, 2), ("1.68", 2, 2), (3, 3, 3), (16, 16, 16), (64, 32, 32)]


@pytest.mark.parametrize("stored", SIZES)
@pytest.mark.parametrize("asked", [(8, 8, 8), (32, 32, 32), (7, 9, 11)])
def test_a_box_stays_where_it_was_to_the_nm(stored, asked):
    """A box along faces of stored voxels: a served voxel is in it if more than half of it is, in nm."""
    stored, corner = exact_size(stored), exact_size(("13.7", "-4.1", "2.35"))
    size = tuple(max(4, int(160 / s)) for s in stored)
    inside = [(n // 4, n - n // 3) for n in size]
    data = np.zeros(size, np.uint16)
    data[tuple(slice(*ends) for ends in inside)] = 700
    image = MultiscaleImage.from_arrays([data], [stored], corner, alignment="resample")
    world = World("1/100", exact_size((1, "0.4", -3)))
    voxel = world.size(asked)
    roi = image.roi(voxel, world, labels=True)
    served = image.read(roi, voxel, world, labels=True)[0]
    first = world.position_in_nm(roi.begin)
    shares = []
    for axis, (low, high) in enumerate(inside):
        low, high = (corner[axis] + end * stored[axis] for end in (low, high))
        begins = [first[axis] + n * asked[axis] for n in range(served.shape[axis])]
        shares.append([max(min(b + asked[axis], high) - max(b, low), 0) / asked[axis] for b in begins])
    expected = [[[z * y * x > Fraction(1, 2) for x in shares[2]] for y in shares[1]] for z in shares[0]]
    np.testing.assert_array_equal(served == 700, expected)
    assert 0 < np.mean(expected) < 1 or max(asked) == 32
    stored_there, grid = image.start_stored(roi, voxel, world)
    box = tuple((int(b // s), int(e // s)) for b, e, s in zip(roi.begin, roi.end, voxel, strict=True))
    there = stored_there()[0] > 0
    target = class_majority([ClassVoxels(box, there, np.ones_like(there), grid)])[1]
    np.testing.assert_array_equal(target, expected)


def test_tiles_agree_with_the_whole_and_padding_surrounds_it():
    rng = np.random.default_rng(3)
    data = rng.integers(0, 3, (9, 8, 7), dtype=np.uint8)
    image = MultiscaleImage.from_arrays([data], [("5.24", 4, 6)], (1, 2, 3), alignment="resample")
    world, size = World(), (8, 3, 5)
    roi = image.roi(size, world, labels=True)
    whole = image.read(roi, size, world, labels=True)
    for axis in range(3):
        for number in range(whole.shape[axis + 1]):
            begin = list(roi.begin)
            begin[axis] += number * size[axis]
            shape = list(roi.shape)
            shape[axis] = size[axis]
            tile = image.read(Roi(begin, shape), size, world, labels=True)
            np.testing.assert_array_equal(tile, whole.take([number], axis + 1))
    around = roi.grow(size, size)
    padded = image.read(around, size, world, labels=True, padding="constant", fill_value=9)
    np.testing.assert_array_equal(padded[:, 1:-1, 1:-1, 1:-1], whole)
    np.testing.assert_array_equal(padded == 9, image.valid(around, size, world, labels=True) == 0)
    mirrored = image.read(around, size, world, labels=True, padding="reflect")
    np.testing.assert_array_equal(mirrored, np.pad(whole, [(0, 0), *[(1, 1)] * 3], mode="symmetric"))


def test_labels_are_read_from_the_level_that_exact_takes_else_from_one_as_fine_else_from_the_finest():
    levels = [np.full((n,) * 3, value, np.uint8) for n, value in ((24, 1), (12, 2), (6, 3))]
    sizes = [(4,) * 3, (8,) * 3, (16,) * 3]
    exact, labels = (MultiscaleImage.from_arrays(levels, sizes, alignment=a) for a in ("exact", "resample"))
    expected = {24: (2, True), 12: (1, True), 16: (3, True), 17: (3, False), 10: (2, False), 3: (1, False)}
    for size, (value, divided) in expected.items():
        roi = Roi((size,) * 3, (size,) * 3)
        assert labels.read(roi, (size,) * 3, World(), labels=True).item() == value
        if divided:
            assert exact.read(roi, (size,) * 3, World(), labels=True).item() == value
        else:
            with pytest.raises(ValueError, match="does not divide it; opened with alignment='resample'"):
                exact.roi((size,) * 3, World(), labels=True)
