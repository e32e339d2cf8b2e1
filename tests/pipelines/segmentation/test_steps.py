"""The steps of a segmentation, block by block in memory, against scipy in one piece: id by id."""

import itertools
from fractions import Fraction

import numpy as np
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from scalenet_gp.pipelines.blockwise import tiles
from scalenet_gp.pipelines.segmentation.steps import (
    FindBasins,
    FindComponents,
    FindEdges,
    FindHoles,
    FindPasses,
    ObjectMask,
)
from scalenet_gp.pipelines.segmentation.task import fillable
from scalenet_gp.segmentation import (
    BallOpening,
    Heights,
    WatershedOptions,
    background_connectivity,
    find_objects,
    join_basins,
    join_fragments,
    look_up,
    number_objects,
)
from tests.pipelines.conftest import VOXEL
from tests.pipelines.segmentation.test_segment import VOLUME, in_one_piece

REACH = 3 * VOXEL


class InMemory:
    """Fragments and their tables in memory."""

    def __init__(self, shape, block):
        self.shape, self.block = shape, block
        self.ids, self.heights = np.zeros(shape, np.uint64), np.zeros(shape, np.uint32)
        self.rows, self.pairs, self.passes = [], [], []

    def base(self, roi):
        grid = [-(-n // b) for n, b in zip(self.shape, self.block, strict=True)]
        place = tuple(int(b) // n for b, n in zip(roi.begin, self.block, strict=True))
        return int(np.ravel_multi_index(place, grid)) * int(np.prod(self.block))

    def write(self, roi, labels, rows):
        box = tuple(slice(b, e) for b, e in zip(roi.begin, roi.end, strict=True))
        self.ids[box] = np.where(labels > 0, labels.astype(np.uint64) + np.uint64(self.base(roi)), 0)
        self.rows.append(rows)

    def read(self, begin, end):
        return self.ids[tuple(slice(b, e) for b, e in zip(begin, end, strict=True))]

    def write_edges(self, roi, pairs):
        self.pairs.append(pairs)

    def write_heights(self, roi, heights):
        self.heights[tuple(slice(b, e) for b, e in zip(roi.begin, roi.end, strict=True))] = heights

    def read_heights(self, begin, end):
        return self.heights[tuple(slice(b, e) for b, e in zip(begin, end, strict=True))]

    def write_passes(self, roi, passes):
        self.passes.append(passes)

    def merge(self, choose, depth=None):
        rows, pairs = np.concatenate(self.rows), np.concatenate(self.pairs)
        if depth is None:
            objects = join_fragments(rows["id"], pairs)
        else:
            objects = join_basins(rows, pairs, np.concatenate(self.passes), depth)
        self.table = rows["id"], number_objects(rows, *objects, choose)[0]

    def numbers(self):
        return self.table


class Source:
    """The voxels of a class."""

    def __init__(self, mask):
        self.mask = mask

    def read(self, begin, end):
        box = tuple(slice(b, e) for b, e in zip(begin, end, strict=True))
        return self.mask[box].copy(), np.ones(self.mask[box].shape, np.float32)


def in_blocks(mask, block, depth=None, connectivity=26, holes=0, opening=0, smallest=0):
    """The objects of a mask, found block by block."""
    source, blocks = Source(mask), list(tiles(Roi((0,) * mask.ndim, mask.shape), Coordinate(block)))
    size = (Fraction(VOXEL),) * mask.ndim

    def run(*steps):
        for step, roi in itertools.product(steps, blocks):
            step(roi)

    background = None
    if largest := int(holes // VOXEL**mask.ndim):
        background = InMemory(mask.shape, block)
        behind = FindEdges(background, background_connectivity(connectivity))
        run(FindHoles(source, background, connectivity), behind)
        background.merge(fillable(mask.shape, largest))
    found = InMemory(mask.shape, block)
    read = ObjectMask(source, background, BallOpening(Fraction(opening), size), mask.shape)
    if depth is None:
        run(FindComponents(read, found, connectivity), FindEdges(found, connectivity))
    else:
        heights = Heights(Fraction(REACH), size)
        run(FindBasins(read, heights, found, connectivity), FindPasses(found, connectivity))
        depth = heights.length(Fraction(depth))
    found.merge(lambda rows: rows["voxels"] * VOXEL**mask.ndim >= smallest, depth)
    return look_up(found.ids, *found.numbers())


OPTIONS = st.fixed_dictionaries(
    {"connectivity": st.sampled_from([6, 18, 26])},
    optional={
        "holes": st.sampled_from([VOLUME, 5 * VOLUME, 1e9]),
        "opening": st.sampled_from([4.5, 7]),
        "smallest": st.sampled_from([2 * VOLUME, 9.5 * VOLUME]),
    },
)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    density=st.floats(0.1, 0.9),
    shape=st.sampled_from([(9, 8, 7), (12, 5, 6), (1, 9, 9)]),
    block=st.sampled_from([(3, 4, 4), (6, 5, 3), (4, 3, 9)]),
    options=OPTIONS,
)
def test_blocks_have_the_objects_of_one_piece(seed, density, shape, block, options):
    mask = np.random.default_rng(seed).random(shape) < density
    np.testing.assert_array_equal(in_blocks(mask, block, **options), in_one_piece(mask, options))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), density=st.floats(0.3, 0.7), connectivity=st.sampled_from([6, 18, 26]))
def test_blocks_of_two_dimensions_have_the_objects_of_one_piece(seed, density, connectivity):
    mask = np.random.default_rng(seed).random((11, 13)) < density
    found = in_blocks(mask, (4, 5), connectivity=connectivity, holes=1e9)
    np.testing.assert_array_equal(found, in_one_piece(mask, {"connectivity": connectivity, "holes": 1e9}))


def test_a_hole_larger_than_a_block_is_filled_and_what_floats_in_it_joins():
    mask = np.zeros((11, 11, 11), bool)
    mask[1:10, 1:10, 1:10] = True
    mask[2:9, 2:9, 2:9] = False
    mask[5, 5, 5] = True
    assert in_blocks(mask, (4, 4, 4)).max() == 2
    filled = in_blocks(mask, (4, 4, 4), holes=7**3 * VOLUME)
    assert (filled[1:10, 1:10, 1:10] == 1).all()
    mask[1, 5, 5] = False  # it opens to the outside
    assert in_blocks(mask, (4, 4, 4), holes=7**3 * VOLUME).max() == 2


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    density=st.floats(0.02, 0.2),
    shape=st.sampled_from([(12, 10, 11), (1, 15, 15), (17, 19)]),
    depth=st.sampled_from([1, 4.5, 8]),
    options=OPTIONS,
)
def test_a_watershed_in_blocks_is_that_of_one_piece(seed, density, shape, depth, options):
    mask = ndimage.binary_dilation(
        np.random.default_rng(seed).random(shape) < density, np.ones((3,) * len(shape)), iterations=2
    )
    block = (4, 5, 7)[-len(shape) :]
    method = WatershedOptions(depth=depth, reach=REACH, **options)
    whole = find_objects(mask, (Fraction(VOXEL),) * mask.ndim, method)
    np.testing.assert_array_equal(in_blocks(mask, block, depth, **options), whole)
