"""Volumes off the lattice that is asked for: against exact arithmetic, physical ramps, and a chain with its labels."""

import itertools
import math
from fractions import Fraction

import gunpowder as gp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.geometry.world import World, exact_size
from scalenet_gp.nodes.sources.multiscale_source import MultiscaleSource
from scalenet_gp.nodes.targets.class_targets import ClassTargets
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from scalenet_gp.volumes.reduction import block_mean
from scalenet_gp.volumes.resampling import Coverage, weighted_mean
from tests.scalenet_gp.volumes.ome_zarr_files import VNC, position_ramps, write_multiscale

factors = st.fractions(1, 6, max_denominator=12)
firsts = st.fractions(-9, 9, max_denominator=12)


def open_ramps(path, *, voxel_sizes, shapes, corner, alignment="resample"):
    """A pyramid of which every voxel's value is the physical position of its centre, one channel per axis."""
    arrays = [position_ramps(shape, size, corner) for shape, size in zip(shapes, voxel_sizes, strict=True)]
    centres = [[c + v / 2 for c, v in zip(corner, size, strict=True)] for size in voxel_sizes]
    write_multiscale(path, arrays, voxel_sizes, centres, axes="czyx", chunk=16)
    return MultiscaleImage.open(path, alignment=alignment)


def physical_centres(roi, voxel_size, world):
    centres = [
        float(origin) + float(world.unit) * (begin + (np.arange(length // v) + 0.5) * v)
        for origin, begin, length, v in zip(world.origin, roi.begin, roi.shape, voxel_size, strict=True)
    ]
    return np.stack(np.meshgrid(*centres, indexing="ij"))


def exact_mean(values, served, factor, first):
    """The value of one served voxel of a row, in rationals: boxes one by one."""
    low = served * factor - first
    boxes = math.ceil(factor)
    step = (factor - 1) / (boxes - 1) if boxes > 1 else 0
    total = Fraction(0)
    for box in range(boxes):
        begin = low + box * step
        voxel, share = begin // 1, begin % 1
        total += (1 - share) * values(voxel) + (share * values(voxel + 1) if share else 0)
    return total / boxes


@given(factor=factors, first=firsts, begin=st.integers(-20, 20), length=st.integers(1, 7))
def test_a_row_is_the_mean_in_rationals(factor, first, begin, length):
    coverage = Coverage.of(begin, begin + length, factor, first)
    low, high = coverage.span

    def value(voxel):
        return (voxel * voxel * 37 + 11) % 251

    served = weighted_mean(np.array([float(value(voxel)) for voxel in range(low, high)]), [coverage])
    expected = [exact_mean(value, index, factor, first) for index in range(begin, begin + length)]
    assert served == pytest.approx([float(x) for x in expected], rel=1e-14)
    assert (low, high) == (math.floor(begin * factor - first), math.ceil((begin + length) * factor - first))


@given(factor=factors, first=firsts, begin=st.integers(-20, 20))
def test_what_is_linear_keeps_its_place(factor, first, begin):
    coverage = Coverage.of(begin, begin + 4, factor, first)
    centres = np.arange(*coverage.span) + 0.5
    expected = [float((index + Fraction(1, 2)) * factor - first) for index in range(begin, begin + 4)]
    assert weighted_mean(centres, [coverage]) == pytest.approx(expected, abs=1e-12)


@given(factor=st.integers(1, 6).map(Fraction), first=firsts, begin=st.integers(-20, 20))
def test_a_whole_factor_weighs_by_the_covered_volume(factor, first, begin):
    coverage = Coverage.of(begin, begin + 3, factor, first)
    for served, index, weight in zip(range(begin, begin + 3), coverage.index, coverage.weight, strict=True):
        low = served * factor - first
        for voxel in range(math.floor(low) - 1, math.ceil(low + factor) + 1):
            overlap = max(min(low + factor, voxel + 1) - max(low, voxel), 0)
            assert weight[index == voxel].sum() / coverage.total == float(overlap / factor)


@pytest.mark.parametrize("shift", [Fraction(1, 4), Fraction(2, 3)])
def test_equal_voxels_are_interpolated_linearly(shift):
    values = np.array([3.0, 10.0, 4.0])
    served = weighted_mean(values, [Coverage.of(0, 2, Fraction(1), -shift)])
    f = float(shift)
    assert served == pytest.approx([(1 - f) * 3 + f * 10, (1 - f) * 10 + f * 4], rel=1e-15)


def test_integers_are_rounded_once_and_halves_to_even():
    half = [Coverage.of(0, 1, Fraction(1), Fraction(-1, 2))] * 2
    # rounded after the first axis, 1.5 and 1.0 would become 2 and 1, and their mean 2
    data = np.array([[1, 0], [2, 2]], np.uint8)
    assert weighted_mean(data, half).tolist() == [[1]]  # 1.25
    assert weighted_mean(np.array([[2, 3], [2, 3]], np.uint8), half).tolist() == [[2]]  # 2.5
    assert weighted_mean(np.array([[3, 4], [3, 4]], np.uint8), half).tolist() == [[4]]  # 3.5


@pytest.mark.parametrize("dtype", ["bool", "int16", ">u2", "float16", "float32", "complex64"])
def test_any_dtype_and_leading_axes(dtype):
    data = np.random.default_rng(5).integers(-300, 300, (2, 3, 4, 5, 6)).astype(dtype)
    coverage = [Coverage.of(0, n - 1, Fraction(1), Fraction(-1, 4)) for n in (4, 5, 6)]
    expected = data.astype(np.result_type(dtype, np.float64))
    for axis in (2, 3, 4):
        low, high = (expected.take(range(first, first + expected.shape[axis] - 1), axis) for first in (0, 1))
        expected = 0.75 * low + 0.25 * high
    exact = expected if np.dtype(dtype).kind in "fc" else np.rint(expected)
    served = weighted_mean(data, coverage)
    assert served.dtype == data.dtype
    assert np.array_equal(served, exact.astype(dtype))
    assert np.array_equal(weighted_mean(data[0, 0, 0], coverage[1:]).shape, (4, 5))


@pytest.mark.parametrize("dtype", ["uint64", "int64", ">i8"])
def test_the_largest_integers_stay_in_range(dtype):
    coverage = [Coverage.of(0, 2, Fraction(1), Fraction(-1, 4))] * 2
    for value in (np.iinfo(dtype).min, np.iinfo(dtype).max):
        served = weighted_mean(np.full((3, 3), value, dtype), coverage)
        assert served.dtype == dtype
        assert set(served.flat) == {value}


@settings(max_examples=50)
@given(
    numbers=st.lists(st.integers(0, 255), min_size=9, max_size=9),
    shift=st.fractions(0, 1, max_denominator=50).filter(lambda f: f < 1),
)
def test_integers_are_exact_before_they_are_rounded(numbers, shift):
    data = np.array(numbers, np.uint8).reshape(3, 3)
    served = weighted_mean(data, [Coverage.of(0, 2, Fraction(1), -shift)] * 2)
    for i, j in itertools.product(range(2), repeat=2):
        value = sum(
            (shift if di else 1 - shift) * (shift if dj else 1 - shift) * int(data[i + di, j + dj])
            for di, dj in itertools.product(range(2), repeat=2)
            if (di == 0 or i + 1 < 3) and (dj == 0 or j + 1 < 3)
        )
        assert served[i, j] == round(value)  # a rational rounds halves to even, too


def test_whole_blocks_on_the_lattice_are_block_means_to_the_bit(tmp_path):
    data = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
    write_multiscale(tmp_path / "v", [data], [(4, 4, 4)], [(2, 2, 2)])
    volume = MultiscaleImage.open(tmp_path / "v", alignment="resample")
    everything = gp.Roi((0, 0, 0), (48, 48, 48))
    assert np.array_equal(volume.read(everything, (4, 4, 4), World())[0], data)
    assert np.array_equal(volume.read(everything, (8, 12, 4), World())[0], block_mean(data, (2, 3, 1)))
    covered = [Coverage.of(0, 12 // f, Fraction(f), Fraction(0)) for f in (2, 3, 1)]
    assert weighted_mean(data, covered) == pytest.approx(block_mean(data, (2, 3, 1)), abs=1e-6)


# the world's origin, and what is asked for in nm: a shift alone, whole factors, and a voxel size that nothing divides
PLACES = {
    "shift": ((0.7, -1.3, 2.25), (5.24, 4, 4)),
    "whole factors": ((1, 1.5, 0.3), (10.48, 8, 16)),
    "fractional factors": ((1.1, -3, 0), (8, 8, 8)),
    "coarse": ((1.1, -3, 0), (32, 32, 32)),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_ramp_is_where_it_was_at_every_scale(tmp_path, place):
    origin, voxel_size = PLACES[place]
    volume = open_ramps(
        tmp_path / "v",
        voxel_sizes=[(5.24, 4, 4), (10.48, 8, 8), (20.96, 16, 16)],
        shapes=[(40, 52, 48), (20, 26, 24), (10, 13, 12)],
        corner=(-2.62, 3.5, 100.75),
    )
    world = World("1/100", exact_size(origin))
    size = world.size(voxel_size)
    roi = volume.roi(size, world)
    data = volume.read(roi, size, world)
    np.testing.assert_allclose(data, physical_centres(roi, size, world), rtol=0, atol=1e-6)
    # all that fits is there: one voxel more on any side would reach out
    begin, end = volume.levels[0].begin, volume.levels[0].end
    for low, high, b, e, v in zip(
        world.position_in_nm(roi.begin), world.position_in_nm(roi.end), begin, end, exact_size(voxel_size), strict=True
    ):
        assert b <= low < b + v
        assert e - v < high <= e


def test_the_coarsest_level_that_is_fine_enough_serves(tmp_path):
    levels = [np.full((n, n, n), value, np.uint8) for n, value in ((24, 1), (12, 2), (6, 3))]
    write_multiscale(tmp_path / "v", levels, [(4,) * 3, (8,) * 3, (16,) * 3], [(2,) * 3, (4,) * 3, (8,) * 3])
    volume = MultiscaleImage.open(tmp_path / "v", alignment="resample")
    shifted = World(1, (-1, 0, 0))
    for size, value in (((5, 5, 5), 1), ((8, 8, 8), 2), ((15, 20, 20), 2), ((16, 16, 17), 3)):
        for world in (World(), shifted):
            assert np.unique(volume.read(volume.roi(size, world), size, world)).tolist() == [value]
    # exactly, 12 nm are blocks of the finest level only
    exact = MultiscaleImage.open(tmp_path / "v")
    assert np.unique(exact.read(exact.roi((12, 12, 12), World()), (12, 12, 12), World())).tolist() == [1]
    assert np.unique(volume.read(volume.roi((12, 12, 12), World()), (12, 12, 12), World())).tolist() == [2]
    with pytest.raises(ValueError, match="no level is as fine as 8 × 8 × 3 nm on every axis: s0 of 4 × 4 × 4 nm"):
        volume.roi((8, 8, 3), shifted)


@pytest.mark.parametrize("padding", [None, "constant", "reflect"])
def test_tiles_agree_with_the_whole_to_the_bit(tmp_path, padding):
    data = np.random.default_rng(1).normal(size=(14, 15, 16))
    write_multiscale(tmp_path / "v", [data], [(5.24, 4, 4)], [(3.3, 0, 1.7)])
    volume = MultiscaleImage.open(tmp_path / "v", alignment="resample")
    world = World("1/100")
    size = gp.Coordinate(world.size((8, 8, 7)))
    roi = volume.roi(size, world)
    if padding:
        roi = roi.grow(size * 3, size * 2)
    whole = volume.read(roi, size, world, padding=padding)
    counts = roi.shape // size
    generator = np.random.default_rng(2)
    for _ in range(30):
        low = gp.Coordinate(generator.integers((0, 0, 0), counts))
        high = gp.Coordinate(generator.integers(np.add(low, 1), np.add(counts, 1)))
        tile = gp.Roi(roi.begin + low * size, (high - low) * size)
        part = (slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))
        assert np.array_equal(volume.read(tile, size, world, padding=padding), whole[part])


def test_outside_is_padded_and_masked(tmp_path):
    data = np.full((8, 8, 8), 9, np.uint8)
    write_multiscale(tmp_path / "v", [data], [(4, 4, 4)], [(2, 2, 2)])
    volume = MultiscaleImage.open(tmp_path / "v", alignment="resample")
    world = World(1, (-1, 0, 0))  # along z the data lies in [1, 33) of this world
    size = (4, 4, 4)
    assert volume.roi(size, world) == gp.Roi((4, 0, 0), (28, 32, 32))
    roi = gp.Roi((-4, 0, 0), (44, 4, 4))
    padded = volume.read(roi, size, world, padding="constant", fill_value=7)[0, :, 0, 0]
    assert padded.tolist() == [7, 7] + [9] * 7 + [7, 7]
    assert volume.valid(roi, size, world)[0, :, 0, 0].tolist() == [0, 0] + [1] * 7 + [0, 0]
    with pytest.raises(ValueError, match="reaches out of"):
        volume.read(roi, size, world)


def test_the_mirror_stands_at_the_faces(tmp_path):
    data = np.random.default_rng(3).integers(0, 256, (6, 1, 1)).astype(float)
    write_multiscale(tmp_path / "v", [data], [(4, 4, 4)], [(2, 2, 2)])
    volume = MultiscaleImage.open(tmp_path / "v", alignment="resample")
    world = World(1, (-1, 0, 0))
    # far beyond both faces: the row mirrored by numpy, then interpolated by a quarter of a voxel
    row = np.pad(data[:, 0, 0], 18, mode="symmetric")
    expected = 0.25 * row[:-1] + 0.75 * row[1:]
    roi = gp.Roi((-16 * 4, 0, 0), (36 * 4, 4, 4))
    served = volume.read(roi, (4, 4, 4), world, padding="reflect")[0, :, 0, 0]
    assert served.tolist() == expected[1 : 1 + len(served)].tolist()


def test_by_default_it_is_refused_and_the_policy_named(tmp_path):
    open_ramps(tmp_path / "v", voxel_sizes=[(4, 4, 4)], shapes=[(8, 8, 8)], corner=(1, 0, 0))
    with pytest.raises(ValueError, match=r"off the lattice.*World\(.*alignment='resample'"):
        MultiscaleImage.open(tmp_path / "v").roi((4, 4, 4), World())
    with pytest.raises(ValueError, match="does not divide it; opened with alignment='resample'"):
        MultiscaleImage.open(tmp_path / "v").roi((6, 6, 6), World(1, (1, 0, 0)))
    with pytest.raises(ValueError) as refused:
        MultiscaleImage.open(tmp_path / "v").roi((2, 2, 2), World(1, (1, 0, 0)))
    assert "resample" not in str(refused.value)  # it would not help: nothing is as fine
    with pytest.raises(ValueError, match="alignment='nearest' has to be 'exact' or 'resample'"):
        MultiscaleImage.open(tmp_path / "v", alignment="nearest")


def test_raw_comes_to_labels_that_lie_between_its_voxels(tmp_path):
    """A ball drawn into raw at its own lattice, and into labels at theirs: in one batch they coincide."""
    corner, voxel_size, n = (13.7, 21.1, 9.35), 4, 24
    centre = np.array([13.7 + 48.3, 21.1 + 47.2, 9.35 + 46.9])

    def distance(shape, first):
        places = [f + voxel_size * (np.arange(length) + 0.5) for f, length in zip(first, shape, strict=True)]
        offsets = np.stack(np.meshgrid(*places, indexing="ij")) - centre[:, None, None, None]
        return np.sqrt((offsets**2).sum(axis=0))

    raw = distance((60, 60, 60), (-2, -2, -2))
    write_multiscale(tmp_path / "raw", [raw], [(voxel_size,) * 3], [(0, 0, 0)], chunk=32)
    labels = (distance((n, n, n), corner) < 40).astype(np.uint8)
    write_multiscale(tmp_path / "ball", [labels], [(voxel_size,) * 3], [[c + voxel_size / 2 for c in corner]])
    crop = MultiscaleImage.open(tmp_path / "ball")
    world = crop.world()
    raw_key, target, mask = gp.ArrayKey("RAW"), gp.ArrayKey("TARGET"), gp.ArrayKey("MASK")
    source = (
        MultiscaleSource(MultiscaleImage.open(tmp_path / "raw", alignment="resample"), {raw_key: (4, 4, 4)}, world),
        ClassTargets({"ball": crop}, {target: (4, 4, 4)}, {target: mask}, world),
    ) + gp.MergeProvider()
    request = gp.BatchRequest()
    for key in (raw_key, target, mask):
        request[key] = gp.ArraySpec(crop.roi((4, 4, 4), world))
    with gp.build(source):
        batch = source.request_batch(request)
    assert batch[mask].data.all()
    assert 0 < batch[target].data.sum() < n**3
    # interpolated distances are off by the curvature alone, below 0.1 nm away from the centre; half a voxel is 2 nm
    clear = np.abs(distance((n, n, n), corner) - 40) > 0.1
    assert ((batch[raw_key].data[0] < 40) == batch[target].data[0].astype(bool))[clear].all()
    np.testing.assert_allclose(batch[raw_key].data[0][labels == 0], distance((n, n, n), corner)[labels == 0], atol=0.1)


@pytest.mark.skipif(not VNC.exists(), reason="the real data are not here")
def test_real_raw_at_another_origin():
    """Half a voxel off, the real images are the means of neighbours; and 8 nm voxels come from no level that fits."""
    path = VNC / "recon-1" / "em" / "tem-uint8"
    exact, placed = MultiscaleImage.open(path), MultiscaleImage.open(path, alignment="resample")
    world = exact.world((50, 4.6, 4.6))
    half = World(world.unit, tuple(o + d for o, d in zip(world.origin, exact_size((0, 2.3, 0)), strict=True)))
    size = world.size((50, 4.6, 4.6))
    roi = gp.Roi(gp.Coordinate(3, 200, 300) * size, gp.Coordinate(2, 32, 32) * size)
    longer = gp.Roi(roi.begin, gp.Coordinate(2, 33, 32) * size)
    stored = exact.read(longer, size, world).astype(float)
    expected = np.rint((stored[:, :, 1:] + stored[:, :, :-1]) / 2).astype(np.uint8)
    assert np.array_equal(placed.read(roi, size, half), expected)
    with pytest.raises(ValueError, match="off the lattice"):
        exact.read(roi, size, half)
    eight = half.size((50, 8, 8))
    assert placed.read(gp.Roi(gp.Coordinate(0, 9, 9) * eight, eight * 4), eight, half).shape == (1, 4, 4, 4)
