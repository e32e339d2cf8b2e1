"""Tiles cover a region, overlap enough, and are blended as a slow twin does that knows no boxes."""

import itertools
import math

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.errors import ArgumentError, LatticeError
from scalenet_gp.inference import OverlappingTiles, Seam


@st.composite
def regions(draw, voxels=1000):
    """A region with tiles, and voxels of one output."""
    dims = draw(st.integers(1, 3))
    longest = int(voxels ** (1 / dims))
    axes = []
    for _ in range(dims):
        size = draw(st.sampled_from([1, 2, 4, 6]))
        length = draw(st.integers(2, 6))
        axes.append(
            (size, draw(st.integers(1, longest)), length, draw(st.integers(1, length - 1)), draw(st.integers(-9, 9)))
        )
    size, extent, length, overlap, begin = (Coordinate(values) for values in zip(*axes, strict=True))
    roi = Roi(begin * size, extent * size)
    return OverlappingTiles.covering(roi, length * size, overlap * size, size), size, overlap * size, length * size


@settings(max_examples=40, deadline=None)
@given(regions())
def test_tiles_cover_the_region_and_are_the_fewest_that_overlap_enough(drawn):
    tiles, size, overlap, wanted = drawn
    for axis, starts in enumerate(tiles.starts):
        extent, tile = tiles.roi.shape[axis], tiles.tile[axis]
        assert tile == min(extent, wanted[axis])
        assert starts[0] == 0
        assert starts[-1] + tile == extent
        gaps = np.diff(starts)
        assert all(gaps % size[axis] == 0)
        if len(starts) > 1:
            assert max(gaps) <= tile - overlap[axis]
            assert max(gaps) - min(gaps) <= size[axis]
            assert (len(starts) - 2) * (tile - overlap[axis]) + tile < extent
            assert tiles.overlap[axis] == tile - max(gaps) >= overlap[axis]
        else:
            assert tiles.overlap[axis] == 0
    counts = np.zeros(tiles.roi.shape / size, int)
    for index in tiles:
        counts[((tiles.roi_of(index) - tiles.roi.begin) / size).to_slices()] += 1
        assert tiles.index_of(tiles.roi_of(index)) == index
    assert counts.min() >= 1
    assert counts.sum() / counts.size == pytest.approx(tiles.cost)


def slow_twin(tiles, size, made):
    """Blend whole predictions, voxel by voxel, and list the differences of neighbours."""
    shape = tuple(tiles.roi.shape / size)
    blended, apart, cut = np.zeros(shape), [], []
    ramps = [
        min(max(tile - b + a for a, b in itertools.pairwise(starts)), tile // 2) if len(starts) > 1 else tile
        for tile, starts in zip(tiles.tile, tiles.starts, strict=True)
    ]
    for voxel in np.ndindex(shape):
        centre = [(v + 0.5) * s for v, s in zip(voxel, size, strict=True)]
        there = {}
        for index in made:
            begin = [starts[i] for starts, i in zip(tiles.starts, index, strict=True)]
            inside = [min(c - b, b + t - c) for c, b, t in zip(centre, begin, tiles.tile, strict=True)]
            if min(inside) > 0:
                within = tuple(v - b // s for v, b, s in zip(voxel, begin, size, strict=True))
                weight = math.prod(min(i, ramp) for i, ramp in zip(inside, ramps, strict=True))
                there[index] = weight, float(made[index][within])
        blended[voxel] = sum(w * p for w, p in there.values()) / sum(w for w, _ in there.values())
        for a, b in itertools.permutations(there, 2):
            steps = np.subtract(b, a)
            if sorted(steps) == [0] * (len(a) - 1) + [1]:
                axis = int(steps.argmax())
                apart.append(abs(there[a][1] - there[b][1]))
                begin, end = tiles.starts[axis][b[axis]], tiles.starts[axis][a[axis]] + tiles.tile[axis]
                if voxel[axis] == (begin + (end - begin) // size[axis] // 2 * size[axis]) // size[axis]:
                    cut.append(apart[-1])
    return blended, apart, cut


@settings(max_examples=20, deadline=None)
@given(regions(voxels=200), st.integers(0, 2**32 - 1))
def test_tiles_are_blended_alike_in_every_box(drawn, seed):
    tiles, size, *_ = drawn
    random = np.random.default_rng(seed)
    made = {index: random.random(tiles.tile / size, dtype=np.float32) for index in tiles}

    def read(index, part):
        return made[index][((part - tiles.roi_of(index).begin) / size).to_slices()]

    whole, seam = tiles.blend(tiles.roi, size, read)
    blended, apart, cut = slow_twin(tiles, size, made)
    np.testing.assert_allclose(whole, blended, rtol=1e-6)
    assert (seam.voxels, seam.cut_voxels) == (len(apart), len(cut))
    assert seam.total == pytest.approx(sum(apart))
    assert seam.cut_total == pytest.approx(sum(cut))
    assert (seam.largest, seam.cut_largest) == (max(apart, default=0), max(cut, default=0))

    edges = [sorted({0, n, *random.integers(0, n + 1, 2)}) for n in whole.shape]
    parts = []
    for box in itertools.product(*map(itertools.pairwise, edges)):
        begin, end = (Coordinate(corners) * size + tiles.roi.begin for corners in zip(*box, strict=True))
        part, differences = tiles.blend(Roi(begin, end - begin), size, read)
        np.testing.assert_array_equal(part, whole[tuple(slice(*edge) for edge in box)])  # to the bit
        parts.append(differences.to_numbers())
    assert Seam.sum(parts).to_numbers() == pytest.approx(seam.to_numbers())


def test_where_tiles_agree_nothing_changes():
    tiles = OverlappingTiles.covering(Roi((3, 0), (31, 20)), Coordinate(10, 8), Coordinate(3, 2), Coordinate(1, 1))
    data = np.random.default_rng(0).random((31, 20), dtype=np.float32)
    blended, seam = tiles.blend(
        tiles.roi, Coordinate(1, 1), lambda _, part: data[(part - Coordinate(3, 0)).to_slices()]
    )
    np.testing.assert_array_equal(blended, data)
    assert seam.voxels > 0
    assert seam.summary() == {"mean": 0.0, "max": 0.0, "cut": {"mean": 0.0, "max": 0.0}}


def test_one_tile_has_no_seam():
    tiles = OverlappingTiles.covering(Roi((0,), (8,)), Coordinate(12), Coordinate(4), Coordinate(4))
    assert (tiles.shape, tuple(tiles.tile), tiles.cost) == ((1,), (8,), 1)
    assert tiles.blend(tiles.roi, Coordinate(4), lambda *_: np.array([1, 2], np.float32))[1] == Seam()


@pytest.mark.parametrize("overlap", [0, -4, 12, 16])
def test_an_overlap_is_smaller_than_a_tile(overlap):
    with pytest.raises(ArgumentError, match=r"along axis 0 an overlap is above 0 and below 12"):
        OverlappingTiles.covering(Roi((0,), (24,)), Coordinate(12), Coordinate(overlap), Coordinate(4))


def test_tiles_are_whole_steps_of_the_lattice():
    with pytest.raises(LatticeError, match=r"an overlap of \(3,\) have to be multiples of \(4,\)"):
        OverlappingTiles.covering(Roi((0,), (24,)), Coordinate(12), Coordinate(3), Coordinate(4))


def test_a_box_that_is_not_a_tile_has_no_index():
    tiles = OverlappingTiles.covering(Roi((0,), (24,)), Coordinate(12), Coordinate(4), Coordinate(4))
    with pytest.raises(ArgumentError, match=r"is not one of the tiles of \(12,\) that begin at \(\(0, 4, 12\),\)"):
        tiles.index_of(Roi((8,), (12,)))
