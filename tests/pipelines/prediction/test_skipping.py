"""A block is left out if no voxel of the mask touches it, by brute force; a mask that leaves nothing is refused."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.geometry.world import World
from scalenet_gp.pipelines.blockwise import Grid
from scalenet_gp.pipelines.prediction import predict, skipping
from scalenet_gp.pipelines.prediction.skipping import empty_blocks
from scalenet_gp.volumes import MultiscaleImage
from tests.pipelines.conftest import CPU, files_below, options_with, tiny_config, write_array, write_volume
from tests.pipelines.prediction.predictions import network


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 4)] * 3))
def test_blocks_without_any_voxel_of_the_mask_are_empty(seed, part):
    """The parts in which the mask is read make no difference."""
    random = np.random.default_rng(seed)
    data = (random.random(random.integers(1, 7, 3)) < 0.1).astype(np.uint8)
    size = [Fraction(int(n), 2) for n in random.integers(5, 20, 3)]
    corner = [Fraction(int(n), 4) for n in random.integers(-40, 40, 3)]
    mask = MultiscaleImage.from_arrays([data], [size], corner)
    world = World(Fraction(1, 2), tuple(Fraction(int(n), 3) for n in random.integers(-9, 9, 3)))
    roi = Roi(random.integers(-40, 20, 3).tolist(), random.integers(10, 120, 3).tolist())
    grid = Grid(roi, Coordinate(random.integers(7, 60, 3).tolist()), {})
    expected = np.ones(grid.shape, bool)
    there = np.argwhere(data)
    for index in np.ndindex(grid.shape):
        block = Roi(roi.begin + Coordinate(index) * grid.block, grid.block).intersect(roi)
        low, high = (world.position_in_nm(edge) for edge in (block.begin, block.end))
        touched = any(
            all(
                corner[axis] + (voxel[axis] - 1) * size[axis] < high[axis]
                and corner[axis] + (voxel[axis] + 2) * size[axis] > low[axis]
                for axis in range(3)
            )
            for voxel in there.tolist()
        )
        expected[index] = not touched

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(skipping._PART, 3, part)
        if expected.all():
            with pytest.raises(ValueError, match="leaves out every block"):
                empty_blocks(mask, grid, world)
        else:
            np.testing.assert_array_equal(empty_blocks(mask, grid, world), expected)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            (0, 5, 7),
            r"prediction.mask: crop leaves out every block: the region lies between 40 × 50 × 60 and 80 × 90 × 100 nm, "
            r"and the mask is nonzero only between 0 × 10 × 14 and 2 × 12 × 16 nm",
        ),
        (None, r"every block: the region lies between 40 × 50 × 60 and 80 × 90 × 100 nm, and the mask is zero every"),
    ],
)
def test_a_mask_that_leaves_out_every_block_is_refused(place, message, monkeypatch):
    monkeypatch.setitem(skipping._PART, 3, (4, 4, 4))
    data = np.zeros((50, 50, 50), np.uint8)
    if place is not None:
        data[place] = 1
    mask = MultiscaleImage.from_arrays([data], [(2, 2, 2)], name="crop")
    grid = Grid(Roi((40, 50, 60), (40, 40, 40)), Coordinate(20, 20, 20), {})
    with pytest.raises(ValueError, match=message):
        empty_blocks(mask, grid, World(Fraction(1), (Fraction(0),) * 3))


def test_a_mask_of_fewer_axes_is_refused():
    mask = MultiscaleImage.from_arrays([np.ones((50, 50), np.uint8)], [(2, 2)], name="crop")
    grid = Grid(Roi((0, 0, 0), (40, 40, 40)), Coordinate(20, 20, 20), {})
    with pytest.raises(ValueError, match=r"prediction\.mask: crop has 2 axes; it has to have 3, like the region"):
        empty_blocks(mask, grid, World(Fraction(1), (Fraction(0),) * 3))


def test_a_mask_is_read_part_by_part(tmp_path, monkeypatch):
    """One whose planes are 300 times as large as those of a part."""
    monkeypatch.setitem(skipping._PART, 3, (32, 64, 64))
    data = np.ones((40, 1100, 1100), np.uint8)
    mask = MultiscaleImage.open(write_array(tmp_path / "mask", data, voxel=2, chunks=(32, 64, 64)))
    begin = [int(edge) for edge in mask.levels[0].begin]
    grid = Grid(Roi(begin, (80, 2200, 2200)), Coordinate(80, 400, 400), {})
    del data
    tracemalloc.start()
    try:
        empty = empty_blocks(mask, grid, World(Fraction(1), (Fraction(0),) * 3))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not empty.any()
    assert peak < 32 * 1100 * 1100 / 4


def test_nothing_is_written_with_a_mask_that_does_not_fit(tmp_path):
    config = tiny_config()
    volume, checkpoint = write_volume(tmp_path / "volume"), network(tmp_path / "checkpoints", config)
    before = files_below(tmp_path)
    for data, message in ((np.zeros((9, 9), np.uint8), "2 axes"), (np.zeros((9, 9, 9), np.uint8), "every block")):
        mask = write_array(tmp_path / f"mask{data.ndim}", data)
        with pytest.raises(ValueError, match=message):
            predict(
                config, volume, checkpoint, tmp_path / "out.zarr", options=options_with(config, mask=mask), workers=CPU
            )
    assert [path for path in files_below(tmp_path) if path not in before and "mask" not in path] == []
